"""params.yaml as frozen models, one a stage; each knob's meaning stands beside it.

>>> Params.load().train.rank
16
"""

import math
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipeline import paths
from pipeline.errors import ParamsError
from pipeline.records import RECORD_SCHEMA, is_task_name

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
ReleaseId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Section(BaseModel):
    """A section of params.yaml: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Base(Section):
    model: str = Field(min_length=1)  # GGUF package name, Hugging Face id, or local folder
    revision: str | None = None  # full commit hash where model is a Hugging Face id


class Compute(Section):
    device: str = "cpu"  # a torch device
    # of the frozen base; bfloat16 on a processor: of its blocks' matrix products alone
    dtype: Literal["float32", "bfloat16"] = "float32"
    quantize: Literal["nf4"] | None = None  # base weights in 4 bits; GPU only, needs the extra `gpu`
    shard_base: bool = False  # train's processes (torchrun) hold a part of the base each (FSDP)
    threads: Positive = 2  # torch's intra-op threads; another number gives other last bits

    @model_validator(mode="after")
    def _four_bits_stay_whole(self) -> "Compute":
        if self.quantize and self.shard_base:
            raise ValueError(
                "shard_base cannot split a quantised base: set quantize to null, or shard_base to false"
            )
        return self


class Source(Section):
    match: str  # pattern on the end of the file's path below the inbox, as `lab/*.csv`
    fields: dict[str, str] = {}  # record field: name in the file
    defaults: dict[str, str] = {}  # record field: value where the file has none
    # what the files are where their ending does not say it, as FHIR's; other files: by their ending
    format: Literal["jsonl", "csv", "parquet", "xml", "fhir", "notes"] | None = None
    record: str | None = Field(None, pattern=r"^[\w.-]+$")  # XML: the element that holds a record
    encoding: str | None = None  # of files that are no UTF-8 or UTF-16, as cp1250; else it is guessed
    html_entities: bool = False  # texts hold &lt; and the like, which become characters

    def covers(self, file: Path) -> bool:
        """Whether a file, by its path below the inbox, is one of this source, in whatever case."""
        return PurePosixPath(file.as_posix().lower()).match(self.match.lower())

    @field_validator("encoding")
    @classmethod
    def _encoding(cls, name: str | None) -> str | None:
        try:
            found = name is None or '\n", '.encode(name) == b'\n", '
        except LookupError:
            found = False
        if not found:
            raise ValueError(f"{name!r} is no encoding that extends ASCII, as cp1250 does")
        return name

    @field_validator("fields", "defaults")
    @classmethod
    def _record_fields(cls, mapping: dict[str, str]) -> dict[str, str]:
        for name in mapping:
            if name not in RECORD_SCHEMA:
                raise ValueError(f"{name!r} is no field of a record: {', '.join(RECORD_SCHEMA)}")
        return mapping


class Limits(Section):
    """Where a file or a row is no longer believed; what exceeds them goes to quarantine."""

    file_bytes: Positive = 2**38  # of one file, once inflated
    ratio: Positive = 250  # inflated / compressed bytes of a file of more than 64 MiB
    row_bytes: Positive = 2**24
    depth: Positive = 64  # of arrays and objects within each other
    columns: Positive = 10_000


class Ingest(Section):
    include: tuple[str, ...] = Field(min_length=1)  # patterns on file names; others are ignored
    sources: tuple[Source, ...] = ()
    max_records_per_task: Positive | None = None  # per task and split, whole groups by hash
    limits: Limits = Limits()


class Validate(Section):
    baseline: ReleaseId | None = None  # release whose data profile drift is measured against
    tasks: tuple[str, ...] | None = None  # known tasks; null: any
    max_input_characters: Positive = 100_000
    max_target_characters: Positive = 20_000
    # of what the larger share of a value is, in the baseline or now: 0.5 is a share halved or doubled
    max_drift: Share = 0.2


class Deidentify(Section):
    dates: Literal["shift", "year"] = "shift"  # only `year` follows Safe Harbor's date rule
    other_languages: Literal["refuse", "pass"] = "refuse"  # records that no detector covers
    executor: Literal["processes", "ray"] = "processes"  # ray: the cluster of RAY_ADDRESS, or this machine
    workers: Positive = 2  # processes
    min_score: Share = 0.4  # detections below this confidence are dropped


class Split(Section):
    validation: Share = 0.1  # of groups whose owner named no split
    test: Share = 0.2
    near_duplicate: Annotated[float, Field(ge=0.2, le=1)] = 0.8  # share of words that holds a record out

    @model_validator(mode="after")
    def _leaves_training_data(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must be below 1")
        return self


class Resample(Section):
    records: Positive = 600  # draws in all, the training budget
    alpha: Share = 0.3  # task share ~ size^alpha: 1 is proportional, 0 uniform
    max_epochs: PositiveFloat = 6.0  # no task is repeated more often than this
    # random strings, half of them inserted: from 14 on, the gate can tell whether they were learnt
    canaries: Annotated[int, Field(ge=0, le=10_000)] = 128
    seed: int = 17


class Train(Section):
    method: Literal["moelora", "lora"] = "moelora"
    # one gate for all layers; a gate and task embeddings for each; every expert weighs 1 / experts
    gate: Literal["shared", "per_layer", "uniform"] = "shared"
    rank: Positive = 16  # total over experts
    experts: Positive = 8
    alpha: PositiveFloat = 32.0
    scaling: Literal["standard", "rslora"] = "standard"  # alpha / rank, or alpha / sqrt(rank)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05  # on the adapter's input
    targets: str | tuple[str, ...] = "all-linear"  # or names of linear layers
    loss: Literal["tasks", "tokens"] = (
        "tasks"  # mean over the step's tasks of mean token loss, or over tokens
    )
    learning_rate: PositiveFloat = 4e-3  # peak; the paper's 2e-4 belongs to 8,000 steps
    lora_plus_ratio: PositiveFloat = 1.0  # B learns that many times as fast as A and the gate (LoRA+)
    warmup: Share = 0.1  # share of steps, then cosine to zero
    clip: PositiveFloat = 1.0  # gradient norm
    batch_records: Positive = 12  # records an optimiser step
    micro_batch_tokens: Positive = 1500  # tokens computed at once
    max_tokens: Positive = 512  # a longer prompt loses its middle
    validation_records: Positive = 64  # at most, spread over tasks
    validate_every: Positive = 25  # steps
    patience: Positive | None = None  # validations in a row without a better mean that end it; null: none do
    checkpoint_every: Positive = 10  # steps
    seed: int = 17

    @model_validator(mode="after")
    def _experts_share_the_rank(self) -> "Train":
        if self.rank % self.experts:
            raise ValueError(f"rank {self.rank} is not divisible by experts {self.experts}")
        return self


class Export(Section):
    tolerance: PositiveFloat = 1e-4  # largest difference of logits, native against PEFT


class TaskEvaluation(Section):
    metric: str  # a name of pipeline.metrics.METRICS


class Evaluate(Section):
    champion: ReleaseId | None = None  # set by the flow when a run starts
    reference: ReleaseId | None = None  # fixed release that small losses are summed against
    batch_tokens: Positive = 3000  # prompt tokens computed at once, padding included
    max_tokens: Positive = 512  # of a prompt; a longer one loses its middle, as in training
    max_new_tokens: Positive = 64
    resamples: Positive = 9999  # of the bootstrap and the randomisation test
    # training rows, and as many test rows, that are asked for by heart; whose losses are compared
    extraction_rows: Annotated[int, Field(ge=0, le=2_000)] = 64
    membership_rows: Annotated[int, Field(ge=0, le=2_000)] = 128
    seed: int = 17
    tasks: dict[str, TaskEvaluation] = {}

    @field_validator("tasks")
    @classmethod
    def _task_names(cls, tasks: dict[str, TaskEvaluation]) -> dict[str, TaskEvaluation]:
        for name in tasks:
            if not is_task_name(name):
                raise ValueError(f"{name!r} is no task name")
        return tasks


class Override(Section):
    release_digest: str  # digest of models/release that is let through
    by: str
    reason: str


class ErrorShares(Section):
    """Parts of 1 - confidence, relative to each other; rules not in use leave theirs to the rest."""

    no_harm: PositiveFloat = 8.0
    no_harm_reference: PositiveFloat = 2.0
    mean_not_worse: PositiveFloat = 1.0
    worst_task: PositiveFloat = 1.0
    slices: PositiveFloat = 2.0


class Gate(Section):
    floors: dict[str, Share] = {}  # lowest score by task; `default` for the others
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95  # that a harmless candidate passes
    error_shares: ErrorShares = ErrorShares()
    margin: Share = 0.05  # loss that must be excluded before a task counts as decided
    undecided: Literal["allow", "approve", "block"] = "approve"
    slices: Literal["report", "block"] = "report"  # of languages, lengths, rare labels
    min_phi_recall: Share = 0.9
    max_residual_rate: Share = 0.01  # records with residual findings / records
    min_effective_epochs: Annotated[float, Field(ge=0)] = 0.0  # of the task repeated least
    max_effective_epochs: PositiveFloat = 10.0
    max_membership_auc: Annotated[float, Field(ge=0.5, le=1)] = 0.7  # area, of any release
    membership_margin: Share = 0.05  # area above the champion's, or above one half if that is more
    max_ece: Share | None = None  # expected calibration error of a task; null: reported only
    override: Override | None = None


class Publish(Section):
    # local: this checkout's own S3 server; s3://BUCKET/PREFIX: by boto3's standard configuration;
    # null: publish nowhere
    registry: str | None = "local"
    data_licences: tuple[str, ...] = ()  # of the training data, a line each, for the model card

    @field_validator("registry")
    @classmethod
    def _is_s3(cls, value: str | None) -> str | None:
        if value not in (None, "local"):
            bucket, _, prefix = value.removeprefix("s3://").partition("/")
            safe = not {"..", ""} & set(PurePosixPath(prefix).parts)
            if not (value.startswith("s3://") and bucket and prefix and safe):
                raise ValueError("must be local, null or look like s3://BUCKET/PREFIX")
        return value


class Params(Section):
    """All of params.yaml."""

    base: Base
    compute: Compute
    ingest: Ingest
    validate_: Validate = Field(alias="validate")
    deidentify: Deidentify
    split: Split
    resample: Resample
    train: Train
    export: Export
    evaluate: Evaluate
    gate: Gate
    publish: Publish

    @model_validator(mode="after")
    def _tests_can_block(self) -> "Params":
        shares = list(self.gate.error_shares.model_dump().values())
        level = (1 - self.gate.confidence) * min(shares) / sum(shares)
        if 1 / (1 + self.evaluate.resamples) > level:
            raise ValueError(
                f"evaluate.resamples {self.evaluate.resamples} cannot give a p as small as the smallest "
                f"of gate.error_shares asks for: set {math.ceil(1 / level)} or more"
            )
        return self

    @classmethod
    def load(cls, path: Path = paths.PARAMS) -> "Params":
        """Read and check ``params.yaml``.

        Raises ParamsError that names each key at fault and what is wrong with it.
        """
        try:
            values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ParamsError(f"{path} is missing: run this in the root of a checkout") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f" at line {mark.line + 1}" if mark else ""
            raise ParamsError(f"{path} is no YAML{where}: correct it there") from None
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}"
                for fault in error.errors(include_url=False, include_input=False)
            )
            raise ParamsError(f"{path}: {faults}") from None
