"""Releases and channels in S3: the only room that speaks to it.

    s3://BUCKET/PREFIX/releases/<id>/…files…
                                  /manifest.sig    signature over the files, where a key is set
                                  /manifest.json   path, size and SHA-256 of each file; written last,
                                                   If-None-Match: * : its presence IS the release
    s3://BUCKET/PREFIX/channels/<name>.json        the release a channel points at; moved by If-Match
    s3://BUCKET/PREFIX/history/<time>-<random>.json    append-only
    s3://BUCKET/PREFIX/removals/<id>.json          while a release is being removed
    s3://BUCKET/PREFIX/tombstones/<id>.json        a release that may no longer be used

    id = first 16 hex digits of the SHA-256 over the sorted ``sha256  path`` lines of the files

A reader never sees a release without its manifest, and every byte it gets has been compared with
the manifest, whose list must itself give the release's id. A tombstone, or a missing or wrong
signature where this repository trusts a key (pipeline.signing), makes every reader refuse it.

``publish.registry`` alone decides which S3 it is: ``local`` is this checkout's server, by the file
that flows.local_s3 leaves in scratch/services; ``s3://BUCKET/PREFIX`` is found by boto3's standard
configuration (AWS_ENDPOINT_URL, profiles, roles) and by nothing else.

>>> registry = Registry.open("s3://my-bucket/registry")
>>> registry.pull(registry.channel("champion").release)
"""

from pipeline.registry.address import LOCAL, LOCAL_BUCKET, LOCAL_CONFIG, LOCAL_URL, location
from pipeline.registry.channel import CANDIDATE, CHAMPION, Channel
from pipeline.registry.client import answers, connect, prepare_bucket
from pipeline.registry.folder import pulled, verify_folder
from pipeline.registry.manifest import ABOUT_THE_FILES, MANIFEST, SIGNATURE, File, Manifest
from pipeline.registry.objects import Lock, Objects
from pipeline.registry.publication import Receipt
from pipeline.registry.registry import Registry
from pipeline.registry.release import Release, is_release_id
from pipeline.registry.retention import Plan, Pruned
from pipeline.registry.upload import PART

__all__ = [
    "ABOUT_THE_FILES",
    "CANDIDATE",
    "CHAMPION",
    "LOCAL",
    "LOCAL_BUCKET",
    "LOCAL_CONFIG",
    "LOCAL_URL",
    "MANIFEST",
    "PART",
    "SIGNATURE",
    "Channel",
    "File",
    "Lock",
    "Manifest",
    "Objects",
    "Plan",
    "Pruned",
    "Receipt",
    "Registry",
    "Release",
    "answers",
    "connect",
    "is_release_id",
    "location",
    "prepare_bucket",
    "pulled",
    "verify_folder",
]
