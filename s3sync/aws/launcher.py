"""Start `aws` processes: as forks of one that has loaded the CLI where that works, else in the usual way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s3sync import processes
from s3sync.aws.result import CHECK_INSTALLATION
from s3sync.aws.settings import without_credentials
from s3sync.aws.warm_starts import WarmStarts
from s3sync.errors import AwsError
from s3sync.processes import Process
from s3sync.text import printable


class Launcher:
    """Starts the processes of one AWS CLI in one environment. Any thread may call its methods."""

    def __init__(
        self,
        path: str,
        environ: Mapping[str, str],
        inherited: Sequence[int] = (),
        warm_starts: WarmStarts | None = None,
    ) -> None:
        """`inherited` descriptors, such as locks, stay open in the processes."""
        self.path = path
        self.environ = environ
        self.endpoint_options = _endpoint_options(environ)
        self._command = processes.argv_to_start(path)
        self._inherited = tuple(inherited)
        self._warm_starts = warm_starts

    def wait_until_loaded(self) -> bool:
        """Wait until the CLI is loaded, if it can be; return whether it is ready to fork."""
        return self._warm_starts is not None and self._warm_starts.wait_until_ready()

    def loaded_version(self) -> str:
        """Return the version of the loaded CLI, e.g. `aws-cli/1.46.3`; empty if none is loaded."""
        return self._warm_starts.version if self._warm_starts and self.wait_until_loaded() else ""

    @property
    def printed_version(self) -> str:
        """Return what a CLI that cannot be kept loaded printed as its version; empty if it was not started."""
        return self._warm_starts.printed_version if self._warm_starts else ""

    def start(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str] | None = None,
        inherited: Sequence[int] = (),
        *,
        merge_stderr: bool = False,
    ) -> Process:
        """Start a process. `environ` replaces the usual environment, `inherited` adds descriptors. Raises AwsError."""
        environ = self.environ if environ is None else environ
        options = (*self.endpoint_options, *argv)
        descriptors = (*self._inherited, *inherited)
        try:
            if self._warm_starts:
                fork = self._warm_starts.start(options, environ, merge_stderr=merge_stderr, inherited=descriptors)
                if fork:
                    return fork
            command = (*self._command, *options)
            return processes.start(command, environ, merge_stderr=merge_stderr, inherited=descriptors)
        except (OSError, ValueError) as error:  # ValueError: keys in S3 may contain what no argument can
            reason, advice = processes.explain_start_failure(self.path, error)
            text = f"cannot run {printable(self.path)}: {reason} ({advice or CHECK_INSTALLATION})"
            raise AwsError(text, id="aws.cannot-start") from error

    def close(self) -> None:
        """End the loaded CLI; the processes that run continue."""
        if self._warm_starts:
            self._warm_starts.close()


def _endpoint_options(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the endpoint of the environment as an option: versions 2 before 2.13 do not know the variables."""
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    is_ignored = environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    return (f"--endpoint-url={without_credentials(endpoint)}",) if endpoint and not is_ignored else ()
