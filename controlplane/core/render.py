"""Turns a valid cluster spec into the files of one node; pure, and the same bytes every time.

Theory of operation. `context` computes, the templates below templates/ lay out, and everything that
a template prints passes through `finalize` first. In configuration files (main.cf, master.cf,
keepalived.conf, check_smtp) it lets through only single words of harmless characters; in lookup
tables it lets through one line without control characters. So a value can add no line, word,
comment or variable to a file even if validation had a hole.

Every file that holds a credential or a private key has mode 0600: that is also what makes `diff`
hide its content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from controlplane.core.certificate import chain_file
from controlplane.core.context import (
    Entry,
    PostfixContext,
    keepalived_context,
    postfix_context,
)
from controlplane.core.names import UNPRINTABLE
from controlplane.core.spec import ClusterSpec, NodeSpec
from controlplane.errors import Invalid
from nodeagent.core.contract import ConfigFile

POSTFIX_DIRECTORY: Final = "/etc/postfix"
KEEPALIVED_DIRECTORY: Final = "/etc/keepalived"
PRIVATE_MODE: Final = "0600"
_WORD: Final = re.compile(r"[A-Za-z0-9._:/\[\]-]+")


class UnsafeValue(Invalid):
    """A value cannot be written into a configuration file without changing its meaning."""


def render(spec: ClusterSpec, node_name: str) -> tuple[ConfigFile, ...]:
    """Return all files of a node, by path; raises `UnsafeValue`, `BadValue` and KeyError.

    The spec has to be valid (`validation.validate`): nothing is checked here but that no value can
    leave its place.
    """
    node = spec.node(node_name)
    files = [*_postfix_files(spec, node), *_keepalived_files(spec, node)]
    return tuple(sorted(files, key=lambda file: file.path))


def _postfix_files(spec: ClusterSpec, node: NodeSpec) -> list[ConfigFile]:
    context = postfix_context(spec, node)
    values = {name: getattr(context, name) for name in context.__dataclass_fields__}
    files = [
        _config("postfix/main.cf", f"{POSTFIX_DIRECTORY}/main.cf", values),
        _config("postfix/master.cf", f"{POSTFIX_DIRECTORY}/master.cf", values),
        _networks(context),
        _map("node_aliases", "Who reads mail for the node itself.", context.node_aliases),
        _map("recipient_domains", "Accepted from anybody.", context.recipient_domains),
        _map("transport", "Next hops by recipient domain.", context.transport),
        _map("sender_policy", "Allowed and blocked sender domains.", context.sender_policy),
        _map("sender_routes", "Next hops by sender.", context.sender_routes),
        _map(
            "sender_credentials",
            "User and password by sender.",
            context.sender_credentials,
            mode=PRIVATE_MODE,
        ),
    ]
    if context.is_sender_default_blocked:
        files.append(_sender_default(context))
    if spec.tls is not None:
        path = f"{POSTFIX_DIRECTORY}/relay/tls.pem"
        files.append(ConfigFile(path=path, content=chain_file(spec.tls), mode=PRIVATE_MODE))
    return files


def _keepalived_files(spec: ClusterSpec, node: NodeSpec) -> list[ConfigFile]:
    context = keepalived_context(spec, node)
    return [
        _config(
            "keepalived/keepalived.conf",
            f"{KEEPALIVED_DIRECTORY}/keepalived.conf",
            {"node": context.node, "instances": context.instances},
        ),
        _config(
            "keepalived/check_smtp",
            f"{KEEPALIVED_DIRECTORY}/check_smtp",
            {"node": context.node},
            mode="0755",
        ),
    ]


def _config(
    template: str, path: str, values: Mapping[str, object], mode: str = "0644"
) -> ConfigFile:
    content = _environment(_one_word).get_template(f"{template}.j2").render(values)
    return ConfigFile(path=path, content=content, mode=mode)


def _table(template: str, name: str, mode: str = "0644", **values: object) -> ConfigFile:
    text = _environment(_one_line).get_template(f"postfix/relay/{template}.j2").render(**values)
    return ConfigFile(path=f"{POSTFIX_DIRECTORY}/relay/{name}", content=text, mode=mode)


def _map(name: str, title: str, entries: tuple[Entry, ...], mode: str = "0644") -> ConfigFile:
    return _table("table.map", f"{name}.map", mode, title=title, entries=entries)


def _networks(context: PostfixContext) -> ConfigFile:
    return _table(
        "trusted_networks.cidr",
        "trusted_networks.cidr",
        title="They may relay anywhere.",
        networks=context.trusted_networks,
    )


def _sender_default(context: PostfixContext) -> ConfigFile:
    """Return the table that refuses everybody; regexp_table(5) writes a dollar sign as two."""
    return _table(
        "sender_default.regexp",
        "sender_default.regexp",
        title="Whoever has no policy.",
        reply_text=context.sender_default_reply.replace("$", "$$"),
    )


def _one_word(value: object) -> object:
    """Let a value into a configuration file only if it is one harmless word."""
    if not _WORD.fullmatch(str(value)):
        raise UnsafeValue(f"{value!r} cannot stand in a configuration file.")
    return value


def _one_line(value: object) -> object:
    """Let a value into a lookup table only if it stays in its line."""
    text = str(value)
    if not text or UNPRINTABLE.search(text) or text != text.strip():
        raise UnsafeValue(f"A value of {len(text)} characters cannot stand in a lookup table.")
    return value


@cache
def _environment(finalize: Callable[[object], object]) -> Environment:
    return Environment(
        loader=FileSystemLoader(_template_directory()),
        autoescape=False,  # noqa: S701 - what is written is no HTML, & must stay &
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _template_directory() -> Path:
    """Return the templates of an installed package, or of a source tree."""
    package = Path(__file__).parents[1]
    installed = package / "templates"
    return installed if installed.is_dir() else package.parent / "templates"
