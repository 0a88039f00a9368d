"""One publication or pull in a process of its own, which may be killed.

python -m tests.bench.releases.child publish|pull AWS_CONFIG_FILE PREFIX FOLDER [RELEASE]
"""

import sys
from pathlib import Path

from pipeline.errors import RegistryError
from pipeline.registry import Registry, client
from pipeline.registry.store import Store

PATIENCE = 2.0  # s; a drill's stalls are longer


def main() -> None:
    action, config, prefix, folder, *release = sys.argv[1:]
    client.READ_TIMEOUT = PATIENCE  # type: ignore[assignment]
    registry = Registry(Store(client.connect(Path(config)), "moelora", prefix))
    try:
        if action == "publish":
            print(registry.publish(Path(folder), {"by": "bench", "reason": "a drill"}).release)
        else:
            print(registry.pull(release[0], Path(folder)))
    except RegistryError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
