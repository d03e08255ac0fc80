"""Checkpoints: safetensors, never pickles, with the run's facts as JSON in the header."""

import errno
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

FORMAT = 1


class CheckpointError(ValueError):
    """The file is not a readable checkpoint; the message says why."""


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors (`network.*`, and `momentum.*` in a resumable one) and JSON facts."""

    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any] = field(default_factory=dict)

    def part(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors under `name.`, without that prefix."""
        prefix = f"{name}."
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}

    def save(self, path: Path) -> None:
        """Replaces the file atomically: after a crash `path` is the old one or the new one.

        Raises OSError, and leaves nothing half-written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        facts = json.dumps({"format": FORMAT, **self.facts})
        tensors = {k: v.detach().cpu().contiguous() for k, v in self.tensors.items()}
        try:
            save_file(tensors, temporary, {"alexnet": facts})
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except SafetensorError as error:  # of a full disk, too
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from None
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Raises CheckpointError."""
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path} is no plain file")
        try:
            with safe_open(path, "pt") as file:
                facts = json.loads((file.metadata() or {})["alexnet"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            raise CheckpointError(f"there is no checkpoint at {path}") from None
        except RecursionError:
            raise CheckpointError(f"{path} is damaged: too large or too deeply nested") from None
        except (SafetensorError, KeyError, ValueError) as error:
            raise CheckpointError(f"{path} is no AlexNet checkpoint: {error}") from error
        if not isinstance(facts, dict) or facts.pop("format", None) != FORMAT:
            raise CheckpointError(f"{path} was written by another version of this project")
        return cls(tensors, facts)
