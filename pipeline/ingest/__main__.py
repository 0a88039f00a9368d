"""ingest: files of task data become shards of checked records.

    python -m pipeline.ingest

Reads data/inbox (see formats; plain, .gz, .zst). Writes data/ingested/<shard>.parquet,
one for each distinct file, named by the first 16 hex digits of its SHA-256; rows that cannot
be used to data/quarantine/<shard>.parquet with line, field, reason and raw text; and
reports/ingest.json. A file is parsed once: its shard is kept in the cache by content, code
and field mapping. Neither the order nor the names of arriving files change a byte.
"""

import json
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import polars as pl

from pipeline import paths, records
from pipeline.cache import Cache
from pipeline.digests import canonical_json, code_digest, file_digest
from pipeline.errors import DataError
from pipeline.files import new_folder, write_atomically
from pipeline.ingest import formats, rows, selection
from pipeline.params import Ingest, Limits, Params, Source
from pipeline.stage import Progress, Report, main


@dataclass(frozen=True)
class File:
    """A distinct file of the inbox: any number of copies, read by one field mapping."""

    digest: str
    path: Path
    kind: formats.Kind
    source: Source | None
    copies: int = 1


@dataclass(frozen=True)
class Shard:
    """A parsed file: the folder that holds its records, and what is known of them."""

    file: File
    entry: Path
    facts: dict[str, Any]
    keys: pl.DataFrame

    @property
    def digest(self) -> str:
        return self.file.digest


def run(params: Params, progress: Progress) -> Report:
    """Ingest the inbox; see the module's docstring. Raises DataError where no record is left."""
    files, ignored = _inbox(params.ingest)
    cache = Cache("ingest")
    code = code_digest([*Path(__file__).parent.rglob("*.py"), records.__file__])
    shards: list[Shard] = []
    reused = 0
    for file in files:
        shard, was_there = _parse(file, cache, code, params.ingest.limits)
        shards.append(shard)
        reused += was_there
        progress.update(len(shards), len(files), "files")
    progress.count(shards_parsed=len(shards) - reused, shards_reused=reused)

    keys = pl.concat(shard.keys for shard in shards)
    selection.check_labels(keys)
    unique = selection.winners(keys)
    cap = params.ingest.max_records_per_task
    kept = selection.drawn(unique, cap) if cap else unique
    report = _report(shards, ignored, unique, kept)
    if kept.is_empty():
        raise DataError(_nothing_left(report))
    _write(shards, kept)
    return report


def _inbox(ingest: Ingest) -> tuple[list[File], int]:
    """Distinct files that ``ingest.include`` lets in, by digest, and how many it does not."""
    files: dict[str, File] = {}
    ignored = 0
    for path in sorted(paths.INBOX.rglob("*")):
        if not path.is_file():
            continue
        if not any(fnmatchcase(path.name, pattern) for pattern in ingest.include):
            ignored += 1
            continue
        digest = file_digest(path)[:16]
        below = path.relative_to(paths.INBOX)
        source = next((source for source in ingest.sources if below.match(source.match)), None)
        kind = formats.kind(path.name, source)
        if kind is None:
            raise DataError(
                f"shard {digest}: ingest.include lets in a file of a type that is not read: "
                "correct ingest.include in params.yaml, or the file's ending"
            )
        file = File(digest, path, kind, source)
        if digest in files:
            # The same bytes twice: how they are read must not depend on the order of their names.
            first = min(files[digest], file, key=lambda one: _precedence(one, ingest.sources))
            file = replace(first, copies=files[digest].copies + 1)
        files[digest] = file
    if not files:
        raise DataError(
            f"no file to read: {paths.INBOX} holds none that ingest.include lets in ({ignored} ignored). "
            "Put files there, correct ingest.include in params.yaml, or run `moelora sample-data`"
        )
    return [files[digest] for digest in sorted(files)], ignored


def _precedence(file: File, sources: tuple[Source, ...]) -> tuple[int, str, str]:
    return sources.index(file.source) if file.source else len(sources), file.kind[0], file.kind[1] or ""


def _parse(file: File, cache: Cache, code: str, limits: Limits) -> tuple[Shard, bool]:
    """A file's shard, and whether it was in the cache."""
    mapping = file.source.model_dump(exclude={"match"}) if file.source else None
    key = cache.key(
        shard=file.digest,
        kind=file.kind,
        mapping=mapping,
        limits=limits.model_dump(),
        code=code,
        polars=pl.__version__,
    )
    was_there = cache.get(key) is not None
    if not was_there:
        names = rows.field_names(file.source)
        wanted = list(dict.fromkeys(name for alternatives in names.values() for name in alternatives))
        blocks = formats.read(
            file.path, file.kind, wanted, names["answer_choices"], source=file.source, limits=limits
        )
        counts: Counter[str] = Counter()
        repaired: Counter[str] = Counter()
        encoding, checked = None, []
        for block in blocks:
            checked.append(rows.check(block, file.digest, file.source))
            counts["in"] += block.frame.height
            counts["languages_guessed"] += checked[-1].languages_guessed
            repaired.update(block.repaired)
            encoding = block.encoding or encoding
        quarantine = pl.concat(block.quarantine for block in checked)
        facts = {
            "in": counts["in"],
            "quarantine": Counter(quarantine["reason"].to_list()),
            "encoding": encoding,
            "languages_guessed": counts["languages_guessed"],
            "repaired": repaired,
        }
        with cache.put(key) as folder:
            pl.concat(block.records for block in checked).write_parquet(folder / "records.parquet")
            pl.concat(block.keys for block in checked).write_parquet(folder / "keys.parquet")
            quarantine.write_parquet(folder / "quarantine.parquet")
            write_atomically(folder / "facts.json", canonical_json(facts))
    entry = cache.folder / key
    keys = pl.read_parquet(entry / "keys.parquet").with_columns(pl.lit(file.digest).alias("shard"))
    return Shard(file, entry, json.loads((entry / "facts.json").read_text()), keys), was_there


def _write(shards: list[Shard], kept: pl.DataFrame) -> None:
    """Write the records that ``kept`` names, and all of quarantine."""
    lines = {shard: rows["line"] for (shard,), rows in kept.group_by("shard")}
    with new_folder(paths.INGESTED, 0o700) as ingested, new_folder(paths.QUARANTINE, 0o700) as quarantine:
        for shard in shards:
            name = f"{shard.digest}.parquet"
            stay = lines.get(shard.digest, pl.Series("line", dtype=pl.Int64))
            if stay.len() == shard.keys.height:
                shutil.copyfile(shard.entry / "records.parquet", ingested / name)
            else:
                whole = pl.read_parquet(shard.entry / "records.parquet")
                whole.filter(pl.col("line").is_in(stay.implode())).write_parquet(ingested / name)
            shutil.copyfile(shard.entry / "quarantine.parquet", quarantine / name)


def _report(shards: list[Shard], ignored: int, unique: pl.DataFrame, kept: pl.DataFrame) -> Report:
    """Counts of rows, whole and for each shard; in = out + quarantined + duplicates + sampled_away."""
    stayed = dict(unique["shard"].value_counts().iter_rows())
    out = dict(kept["shard"].value_counts().iter_rows())
    counts = []
    for shard in shards:
        once, copies = shard.facts["in"], shard.file.copies
        alone, drawn = stayed.get(shard.digest, 0), out.get(shard.digest, 0)
        counts.append(
            {
                "shard": shard.digest,
                "files": copies,
                "in": once * copies,
                "out": drawn,
                "quarantined": sum(shard.facts["quarantine"].values()),
                "duplicates": shard.keys.height - alone + once * (copies - 1),
                "sampled_away": alone - drawn,
            }
        )
    reasons: Counter[str] = Counter()
    for shard in shards:
        reasons.update(shard.facts["quarantine"])
    names = ("in", "out", "quarantined", "duplicates", "sampled_away")
    return {
        "rows": {name: sum(count[name] for count in counts) for name in names},
        "files": {"read": sum(shard.file.copies for shard in shards), "ignored": ignored},
        "shards": counts,
        "quarantine": dict(reasons),
        "tasks": dict(kept["task"].value_counts().iter_rows()),
        "encodings": dict(Counter(shard.facts["encoding"] for shard in shards if shard.facts["encoding"])),
        "repaired": dict(sum((Counter(shard.facts["repaired"]) for shard in shards), Counter())),
        "languages_guessed": sum(shard.facts["languages_guessed"] for shard in shards),
    }


def _nothing_left(report: Report) -> str:
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(report["quarantine"].items()))
    worst = ", ".join(shard["shard"] for shard in report["shards"][:20])
    return (
        f"no record left of {report['rows']['in']} rows in shards {worst} ({reasons or 'all are empty'}): "
        "correct the files, or map their fields by ingest.sources in params.yaml"
    )


if __name__ == "__main__":
    main("ingest", run)
