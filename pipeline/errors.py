"""Every error of the pipeline, and the exit code it ends a stage with.

    PipelineError                 1   something failed that a new run may get past
    ├── InputError                2   the data, the parameters or the set-up are at fault
    │   ├── ParamsError               params.yaml
    │   ├── DataError                 a file or record
    │   ├── DeidKeyError              the de-identification key
    │   └── BaseModelError            the base model
    ├── Stopped                  75   a signal arrived; the state is saved, run again to go on
    └── RegistryError             1   the release registry
        ├── RegistryUnavailable       nothing answers, or access is refused
        ├── ReleaseNotFound           no such release, channel or file
        ├── ReleaseCorrupt            a digest or file list does not fit
        │   └── ReleaseUntrusted      not signed by a key that this repository trusts
        ├── ReleaseErased             withdrawn: data it was made from had to be erased
        └── PointerMoved              somebody else moved the channel first

Messages name the file (raw files by digest), the field and the remedy, and never hold
text of a record.
"""


class PipelineError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class InputError(PipelineError):
    """The data, the parameters or the set-up are at fault; running again changes nothing."""

    exit_code = 2


class ParamsError(InputError):
    """params.yaml has an unknown key, a missing key or a value out of range."""


class DataError(InputError):
    """A file or record cannot be used."""


class DeidKeyError(InputError):
    """MOELORA_DEID_KEY is missing, malformed, or not the key the data was made with."""


class BaseModelError(InputError):
    """The base model is missing or not the one that params.yaml names."""


class Stopped(PipelineError):
    """A signal arrived and the state is saved; the same command goes on from there."""

    exit_code = 75


class RegistryError(PipelineError):
    """The release registry did not do what was asked."""


class RegistryUnavailable(RegistryError):
    """Nothing answers at the registry's address, or access is refused."""


class ReleaseNotFound(RegistryError):
    """The registry holds no such release, channel or file."""


class ReleaseCorrupt(RegistryError):
    """A release's digest, signature or file list does not fit its manifest."""


class ReleaseUntrusted(ReleaseCorrupt):
    """A release is not signed, or not by a key that this repository trusts."""


class ReleaseErased(RegistryError):
    """A release was withdrawn, since data it was made from had to be erased."""


class PointerMoved(RegistryError):
    """A channel was moved by somebody else between reading and writing it."""
