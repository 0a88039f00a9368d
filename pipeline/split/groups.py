"""The split of a group: its owner's, else by a hash that no other record can change."""

import hashlib

import polars as pl

from pipeline.params import Split
from pipeline.records import SPLITS


def assign(records: pl.DataFrame, params: Split) -> pl.DataFrame:
    """``records`` with every ``split`` filled in: the owner's, else the group's; order as given.

    A group with an owner's split for some records goes there with the others (to the strongest
    where there are several); the groups left go by hash.
    """
    owners = (
        records.filter(pl.col("split").is_not_null())
        .group_by("group_id")
        .agg(pl.col("split").cast(pl.Enum(SPLITS)).max().cast(pl.String).alias("owner"))
    )
    groups = records["group_id"].unique()
    hashed = pl.DataFrame(
        {"group_id": groups, "hashed": [by_hash(group, params) for group in groups]},
        schema={"group_id": pl.String, "hashed": pl.String},
    )
    return (
        records.join(hashed, on="group_id", how="left", maintain_order="left")
        .join(owners, on="group_id", how="left", maintain_order="left")
        .with_columns(split=pl.coalesce("owner", "hashed"))
        .drop("owner", "hashed")
    )


def by_hash(group: str, params: Split) -> str:
    """The split of a group that its owner put nowhere; depends on its pseudonym alone."""
    fraction = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) / 2**64
    if fraction < params.test:
        return "test"
    return "validation" if fraction < params.test + params.validation else "train"
