"""The nodes of the cluster as what can be chosen in a form."""

from __future__ import annotations

from sqlmodel import Session

from controlplane.gui.forms import ANY, FilledForm, Option
from controlplane.store.cluster import node_names


def with_nodes(session: Session, form: FilledForm, first: Option = ANY) -> FilledForm:
    """Return the form whose field `node` offers `first` and then every node by name."""
    return form.with_options("node", (first, *map(Option.of, node_names(session))))
