"""A second, fresh Python process decodes files, so that whatever it shows was in the file.

It knows the exported model and the files it is told to decode, and nothing of the encoder's memory.
The two processes talk over the child's stdin and stdout: a line of JSON asks for one file; a line
of JSON answers, followed by the raw pixels. The child ends when its stdin closes, so it never
outlives the parent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import torch
from torch import Tensor

from lic_train import errors
from lic_train.codec import Codec
from lic_train.errors import LicError
from lic_train.evaluation.measure import local_decoder
from lic_train.utils.safe_path import python_module, safe_environment

COMMAND = tuple(python_module("lic_train.evaluation.decoder_process"))


class DecoderProcess:
    """A decoder for ``evaluate`` that runs in its own process; use it as a context manager.

    Args:
        model_dir: an exported model, see ``lic_train.codec.export``.
        device: where the child decodes, "cpu" or "cuda".
        environment: variables that differ from this process's, e.g. another ``OMP_NUM_THREADS``.
        timeout_s: seconds without an answer after which the child is killed.
        command: the command to start; tests start one that loads its own codec and calls ``serve``.
        trust: see ``lic_train.codec.export.load_codec``.

    Raises:
        ModelError: on entering, when the child cannot load the model.
        LicError: on entering, when the child ends or gives no answer in time.
    """

    def __init__(
        self,
        model_dir: Path,
        device: str = "cpu",
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 600.0,
        command: Sequence[str] = COMMAND,
        trust: Sequence[str] = (),
    ) -> None:
        self.arguments = [*command, str(model_dir), device, *trust]
        # Where classes that the user trusts were imported from here, the child finds them too.
        self.environment = safe_environment(environment, [_folder_of(name) for name in trust])
        self.timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> DecoderProcess:
        # To a file, not a pipe: nobody reads along, and a full pipe would stop the child.
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self.arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=self.environment,
        )
        try:
            self._answer(None)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __call__(self, path: Path) -> tuple[Tensor, float]:
        """Decode a file.

        Args:
            path: the file to decode.

        Returns:
            uint8 pixels ``(..., C, H, W)``, and the seconds that decoding took in the child.

        Raises:
            BitstreamError: the child refused the file; the text is the child's.
            DataError: the child cannot read the file.
            LicError: the child died, gave no answer in time, or was not started.
        """
        return self._answer({"path": str(Path(path).resolve())})

    def close(self) -> None:
        """End the child; a second call does nothing."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def _answer(self, request: dict[str, str] | None) -> tuple[Tensor, float]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise LicError("the decoder process is not running: use it inside its 'with'")
        # Killing the child ends every wait on its pipes.
        watchdog = threading.Timer(self.timeout_s, process.kill)
        watchdog.start()
        try:
            if request is not None:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
            head: dict[str, Any] = json.loads(process.stdout.readline())
            data = bytearray(process.stdout.read(head.get("bytes", 0)))
            if len(data) != head.get("bytes", 0):
                raise EOFError
        except (OSError, EOFError, ValueError) as error:
            process.kill()
            raise LicError(self._exit_message(process)) from error
        finally:
            watchdog.cancel()
        if "error" in head:
            raise getattr(errors, head["error"], LicError)(head["text"])
        pixels = torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0)
        return pixels.reshape(head.get("shape", [0])), head.get("seconds", 0.0)

    def _exit_message(self, process: subprocess.Popen[bytes]) -> str:
        code, lines = process.wait(), [b"it left no message"]
        if self._log is not None:
            self._log.seek(0)
            lines = self._log.read().strip().splitlines() or lines
        last = lines[-1].decode(errors="replace")
        return f"the decoder process ended or gave no answer in time (code {code}): {last}"


def _folder_of(name: str) -> str:
    """Where the package of ``package.module:Class`` was imported from; "" if it was not."""
    package = sys.modules.get(name.partition(":")[0].partition(".")[0])
    file = getattr(package, "__file__", None)
    if not file:
        return ""
    path = Path(file).resolve()
    return str(path.parents[1] if path.name == "__init__.py" else path.parent)


def serve(load: Callable[[Path, str], Codec]) -> None:
    """Run the child: load the model that ``sys.argv`` names, then decode files until stdin closes.

    Args:
        load: returns the codec, in eval mode and ready to decode, of a model directory and device.
    """
    # The answers own stdout; whatever a library prints goes to stderr and cannot garble them.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def answer(head: dict[str, Any], data: bytes = b"") -> None:
        answers.write(json.dumps(head | {"bytes": len(data)}).encode() + b"\n" + data)
        answers.flush()

    model_dir, device = Path(sys.argv[1]), sys.argv[2]
    try:
        decode = local_decoder(load(model_dir, device), device)
        answer({})
    except LicError as error:
        answer({"error": type(error).__name__, "text": str(error)})
        return
    for line in sys.stdin:
        try:
            pixels, seconds = decode(Path(json.loads(line)["path"]))
            head = {"shape": list(pixels.shape), "seconds": seconds}
            answer(head, pixels.contiguous().numpy().tobytes())
        except LicError as error:
            answer({"error": type(error).__name__, "text": str(error)})


if __name__ == "__main__":
    from lic_train.codec.export import load_codec

    serve(lambda directory, on: load_codec(directory, on, trust=sys.argv[3:]))
