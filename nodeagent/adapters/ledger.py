"""What the agent must not forget: its adoption, its switchover, generations, receipts it knows of.

Small JSON files below the state directory, each written whole, synced and renamed before the step
that relies on it. A file that cannot be read raises `BrokenState`: unknown is never permission.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nodeagent.adapters.identity import write_private
from nodeagent.core.contract import ClusterView, ReceiptKey, RememberedReceipt
from nodeagent.core.observation import Adoption, AdoptionStep, Switchover, SwitchoverStep
from nodeagent.errors import BrokenState


class Ledger:
    """One instance a process; only the agent writes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._keys: dict[int, ReceiptKey] = {}

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self._directory / f"{name}.json"
        try:
            content: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise BrokenState(f"{path} cannot be read.") from error
        if not isinstance(content, dict):
            raise BrokenState(f"{path} does not hold a JSON object.")
        return content

    def _write(self, name: str, content: dict[str, Any] | None) -> None:
        path = self._directory / f"{name}.json"
        if content is None:
            path.unlink(missing_ok=True)
        else:
            write_private(path, json.dumps(content).encode())

    def adoption(self) -> Adoption | None:
        """Return the adoption under way."""
        content = self._read("adoption")
        if content is None:
            return None
        try:
            step = AdoptionStep(content["step"])
            return Adoption(content["queue"], step, content["generation"])
        except (KeyError, ValueError) as error:
            raise BrokenState(f"{self._directory / 'adoption.json'} is no adoption.") from error

    def note_adoption(self, adoption: Adoption | None) -> None:
        """Persist the adoption's step, or its end."""
        self._write("adoption", None if adoption is None else asdict(adoption))

    def switchover(self) -> Switchover | None:
        """Return the switchover that this node is the source of."""
        content = self._read("switchover")
        if content is None or content.get("step") is None:
            return None
        try:
            step = SwitchoverStep(content["step"])
            return Switchover(content["id"], content["destination"], step)
        except (KeyError, ValueError) as error:
            raise BrokenState(f"{self._directory / 'switchover.json'} is no switchover.") from error

    def last_switchover_id(self) -> int:
        """Return the id of the last switchover this node took part in as source; 0: none."""
        content = self._read("switchover")
        try:
            return 0 if content is None else int(content["id"])
        except (KeyError, TypeError, ValueError) as error:
            raise BrokenState(f"{self._directory / 'switchover.json'} is no switchover.") from error

    def note_switchover(self, id: int, destination: str, step: SwitchoverStep | None) -> None:  # noqa: A002
        """Persist a switchover's step; None: it has ended, its id is remembered."""
        self._write("switchover", {"id": id, "destination": destination, "step": step})

    def view(self) -> ClusterView | None:
        """Return the last view, however old, so that an agent can start while nobody answers."""
        content = self._read("view")
        try:
            return None if content is None else ClusterView.model_validate(content)
        except ValueError as error:
            raise BrokenState(f"{self._directory / 'view.json'} is no view.") from error

    def note_view(self, view: ClusterView) -> None:
        """Persist the view when it says something new; its remaining times mean nothing later."""
        self._write("view", view.model_dump(mode="json"))

    def is_instance_known(self, instance_id: str) -> bool:
        """Tell whether this control plane instance has been seen before."""
        content = self._read("instances") or {"ids": []}
        return instance_id in content["ids"]

    def note_instance(self, instance_id: str) -> None:
        """Remember a control plane instance, once it knows what we know."""
        content = self._read("instances") or {"ids": []}
        if instance_id not in content["ids"]:
            self._write("instances", {"ids": [*content["ids"], instance_id]})

    def generations(self) -> dict[str, int]:
        """Return the highest generation seen for each queue."""
        return self._read("generations") or {}

    def note_generation(self, queue: str, generation: int) -> None:
        """Remember a queue's generation if it is the highest seen."""
        known = self.generations()
        if generation > known.get(queue, 0):
            self._write("generations", {**known, queue: generation})

    def receipts(self) -> tuple[RememberedReceipt, ...]:
        """Return every receipt that this node committed or honoured."""
        return tuple(
            _receipt(path) for path in sorted((self._directory / "receipts").glob("*.json"))
        )

    def receipt_keys(self, numbers: tuple[int, ...]) -> tuple[ReceiptKey, ...]:
        """Return which receipts these are, in so far as this node remembers them."""
        for number in numbers:
            path = self._directory / "receipts" / f"{number}.json"
            if number not in self._keys and path.exists():
                receipt = _receipt(path)
                self._keys[number] = ReceiptKey(**receipt.model_dump(exclude={"ids"}))
        return tuple(self._keys[number] for number in numbers if number in self._keys)

    def note_receipt(self, receipt: RememberedReceipt) -> None:
        """Remember a receipt; ids of the same number add up."""
        path = self._directory / "receipts" / f"{receipt.number}.json"
        if path.exists():
            known = _receipt(path)
            ids = tuple(sorted({*known.ids, *receipt.ids}))
            receipt = known.model_copy(update={"ids": ids})
        write_private(path, receipt.model_dump_json().encode())


def _receipt(path: Path) -> RememberedReceipt:
    try:
        return RememberedReceipt.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BrokenState(f"{path} cannot be read.") from error
