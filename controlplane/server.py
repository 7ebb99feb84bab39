"""Starts one control plane process: state, schema, first admin, TLS, jobs, then the listener."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from controlplane.api.user_auth import login_rules
from controlplane.app import create_app
from controlplane.errors import SetupFailed
from controlplane.gui.live import Live
from controlplane.gui.static_files import load_assets
from controlplane.gui.templating import compile_templates
from controlplane.http_protocol import ControlPlaneHttp
from controlplane.jobs.scheduler import Tools, start_jobs
from controlplane.settings import Settings
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.instance import ensure_instance
from controlplane.store.policy_settings import ensure_policy
from controlplane.store.schema import migrate
from controlplane.store.users import ensure_first_admin
from controlplane.tls import ServerTls

log = structlog.get_logger(__name__)

SERVING_LOCK = "serving.lock"


def open_database(settings: Settings) -> Database:
    """Return the migrated database; a new one gets its instance id and first admin."""
    database = Database(settings.database_url)
    migrate(database)
    with database.write() as session:
        ensure_instance(session)
    ensure_first_admin(database, login_rules(settings))
    return database


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished first."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    load_assets()
    make_state_dir(settings.state_dir)
    with serving_lock(settings.state_dir, is_shared=True):
        box = SecretBox.load(settings.state_dir)
        database = open_database(settings)
        ClusterStore(database, box).ensure_certificate()
        ensure_policy(database, box)
        tls = ServerTls(settings.state_dir)
        app = create_app(settings, database)
        app.state.secret_box = box
        app.state.tls = tls
        _prepare(app)
        tools = Tools(settings, database, box, tls, app.state.job_log, app.state.notifier)
        jobs = start_jobs(tools)
        log.info("serving", address=settings.listen, sqlite=database.is_sqlite)
        try:
            _Server(_uvicorn_config(app, settings, tls), app.state.live).run()
        finally:
            jobs.shutdown(wait=False)
            database.close()


def _prepare(app: FastAPI) -> None:
    """Do before listening what the first requests would wait for, and all others behind them."""
    compile_templates()
    for _ in iter_route_contexts(app.routes):
        pass  # FastAPI works a route out when it is first looked at


class _Server(uvicorn.Server):
    """Ends the live streams of the GUI when it stops: they would never end by themselves."""

    def __init__(self, config: uvicorn.Config, live: Live) -> None:
        super().__init__(config)
        self._live = live

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop as uvicorn does, without streams to wait for."""
        self._live.close()
        await super().shutdown(sockets)


def _end(number: int, frame: FrameType | None) -> None:
    """End in order: uvicorn raises the signal once more when it has finished its requests."""
    del number, frame
    raise SystemExit(0)


def make_state_dir(path: Path) -> None:
    """Make the state directory, readable by its owner only."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SetupFailed(f"{path} cannot be made: {error.strerror}.") from error


@contextmanager
def serving_lock(state_dir: Path, *, is_shared: bool) -> Iterator[None]:
    """Hold the lock that every serving process shares and a restore needs for itself."""
    try:
        descriptor = os.open(state_dir / SERVING_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SetupFailed(f"{state_dir} cannot be written: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        busy = "a restore is under way" if is_shared else "stop the control plane first"
        raise SetupFailed(f"{state_dir} is in use: {busy}.") from error
    finally:
        os.close(descriptor)


def _uvicorn_config(app: object, settings: Settings, tls: ServerTls) -> uvicorn.Config:
    def context_factory(
        config: uvicorn.Config, default: Callable[[], ssl.SSLContext]
    ) -> ssl.SSLContext:
        del config, default
        return tls.context

    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        host=settings.host,
        port=settings.port,
        ssl_context_factory=context_factory,
        http=ControlPlaneHttp,
        ws="none",
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.stop_timeout_s,
        timeout_keep_alive=30,
        proxy_headers=False,
    )
