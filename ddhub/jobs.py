"""Independent jobs as a dict {output file: function}: done means the file exists, resuming is skipping.

One failed job leaves the others done. A file lock keeps two processes from doing the same job; it dies with its holder.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from ddhub import files
from ddhub.errors import UserError, memory_errors
from ddhub.log import say

Job = Callable[[Path], None]  # writes the file that it is given, atomically


def run_all(jobs: Mapping[Path, Job]) -> None:
    """Run every job whose file does not exist, in order.

    Raises:
        UserError: after all jobs were tried, with what each failed one said.
    """
    faults: list[UserError] = []
    for path, job in jobs.items():
        if path.exists():
            continue
        lock = path.with_name(f".{path.name}.lock")
        with files.locked(lock):
            try:
                if not path.exists():  # another process may have finished it while we waited
                    with memory_errors(path.stem):
                        job(path)
            except UserError as fault:
                say(f"failed: {path.name}: {fault}")
                faults.append(fault)
        lock.unlink(missing_ok=True)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise UserError(f"{len(faults)} of {len(jobs)} jobs failed:\n" + "\n".join(str(fault) for fault in faults))
