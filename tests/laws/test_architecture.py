"""The laws of the code: who may import what, and how long a thing may be; every rule says why."""

import ast
import functools
import pathlib
from collections.abc import Iterator

import attrs
import pytest

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ("messaging", "providers", "gateway_grpc", "dispatcher", "ops", "bench")
LONGEST_MODULE, LONGEST_FUNCTION = 350, 50


@attrs.frozen
class Module:
    """One of our modules, by its path from the root without `.py`."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return _parsed(self.text)

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())


@functools.cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def _modules() -> list[Module]:
    files = [path for package in PACKAGES for path in sorted(ROOT.joinpath(package).rglob("*.py"))]
    return [Module(str(path.relative_to(ROOT).with_suffix("")), path.read_text(encoding="utf-8")) for path in files]


MODULES = _modules()


@functools.cache
def imported(module: Module) -> frozenset[str]:
    """Give every module that is imported, also inside functions; `from a import b` gives `a` and `a.b`."""
    return frozenset(_imports(module))


def _imports(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.path.split("/")[: -node.level]
                base = ".".join([*parents, base]).strip(".")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def lies_in(module: Module, rooms: tuple[str, ...]) -> bool:
    return any(module.path == room or module.path.startswith(f"{room}/") for room in rooms)


# What may be imported only in some rooms: packages, rooms, reason.
KEPT: list[tuple[tuple[str, ...], tuple[str, ...], str]] = [
    (
        ("gateway_grpc",),
        ("gateway_grpc", "ops"),
        "the gateway is its own process: messaging/ knows no process, and the dispatcher does not need the gateway",
    ),
    (
        ("dispatcher",),
        ("dispatcher", "ops", "bench/fleet_scale"),
        "the dispatcher is its own process: messaging/ knows no process, and the gateway does not need it",
    ),
    (
        ("ops",),
        ("ops", "bench"),
        "what runs in production does not need what a person runs",
    ),
    (
        ("bench",),
        ("bench",),
        "what is measured does not know that it is",
    ),
    (
        ("nats",),
        ("messaging/stream",),
        "the stream's promises (conditions, repeats, leader reads) are kept in one room, and another client fits in",
    ),
    (
        ("sqlalchemy", "alembic", "asyncpg", "psycopg"),
        ("messaging/store",),
        "the history can be stored elsewhere without anyone else noticing",
    ),
    (
        ("providers",),
        ("providers", "dispatcher", "ops"),
        "only what calls providers needs their dialects, and what checks their settings",
    ),
    (
        ("httpx", "aiohttp"),
        ("dispatcher/transport",),
        "the gate stands right before the write: whoever calls a provider past it breaks the limit",
    ),
    (
        ("grpc", "grpc_status", "grpc_health", "grpc_reflection"),
        ("gateway_grpc", "ops", "bench", "messaging/runtime/health"),
        "only the gateway speaks gRPC: errors are plain values until they leave the process; a probe is a caller",
    ),
    (
        ("phonenumbers",),
        ("gateway_grpc/numbers", "ops"),
        "numbers are checked once, in the gateway; everything behind it has E.164",
    ),
]
_ALLOWED_BESIDE = {
    "ops/embedded/postgres": "asyncpg",  # it starts the server, and waits until it answers
    "ops/embedded/postgres_roles": "asyncpg",  # it makes the database and its owner, before there is a store
    "bench/stored_rows": "asyncpg",  # it makes millions of rows by COPY
    "bench/floor": "nats",  # it is what the product is held against, written as the library's manual says
    "bench/seeder": "nats",  # it publishes faster than the product may
}


@pytest.mark.parametrize(("packages", "rooms", "reason"), KEPT, ids=[kept[0][0] for kept in KEPT])
def test_package_is_imported_in_its_room_only(packages: tuple[str, ...], rooms: tuple[str, ...], reason: str) -> None:
    strays = sorted(
        {
            f"{module.path} imports {package}"
            for module in MODULES
            if not lies_in(module, rooms)
            for name in imported(module)
            for package in packages
            if within(name, package) and _ALLOWED_BESIDE.get(module.path) != package
        }
    )
    assert not strays, f"{'; '.join(strays)}. Only {', '.join(rooms)} may, because {reason}."


PURE = {
    "messaging": (
        "model",
        "lifecycle",
        "routing",
        "errors",
        "codec",
        "events",
        "documents",
        "reasons",
        "status",
        "stream/topology",
    ),
    "gateway_grpc": ("answers", "chunk", "numbers", "repeats", "segments", "spelling", "texts", "times", "validation"),
    "dispatcher": (
        "breaker/breaker",
        "breaker/silence",
        "work/verdict",
        "work/redelivery",
        "work/job",
        "work/shedding",
        "rate/allocator",
        "rate/targets",
        "rate/window",
    ),
    "ops/bulk": ("cells", "header", "identity", "row", "text"),
    "providers": tuple(sorted(path.stem for path in ROOT.joinpath("providers").rglob("*.py"))),
}
IMPURE = (
    "asyncio",
    "concurrent",
    "contextvars",
    "datetime",
    "getpass",
    "http",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "queue",
    "random",
    "secrets",
    "select",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "structlog",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "urllib.request",
)
_FORBIDDEN_CALLS = {"open", "input", "print", "uuid1", "uuid4", "now", "utcnow", "today", "GetCurrentTime"}
_FORBIDDEN_CALLS |= {"formatdate", "localtime", "make_msgid"}  # of email.utils
_PURITY = "a clock, randomness or I/O hidden inside is one that tests cannot choose: facts come in as arguments"


@pytest.mark.parametrize("path", [f"{room}/{name}" for room, names in PURE.items() for name in names])
def test_pure_module_imports_no_clock_no_chance_and_no_world(path: str) -> None:
    (module,) = [one for one in MODULES if one.path == path]
    found = sorted({name for name in imported(module) for impure in IMPURE if within(name, impure)})
    assert not found, f"{path} imports {', '.join(found)}: {_PURITY}"
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
    }
    assert not called & _FORBIDDEN_CALLS, f"{path} calls {called & _FORBIDDEN_CALLS}: {_PURITY}"
    waits = [node.lineno for node in ast.walk(module.tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]
    assert not waits, f"{path} waits in line {waits[0]}: {_PURITY}"


# Pure modules may use these, whose own doings are values.
_VALUES_OF = {
    "messaging/stream/topology": {"messaging.runtime.config"},  # settings as a value
    "dispatcher/work/job": {
        "messaging.stream.interface",
        "opentelemetry.trace",
    },  # the delivery and span it holds
    # what the providers file holds
    **{
        f"providers/{name}": {"messaging.runtime.providers_file", "messaging.runtime.secret"}
        for name in PURE["providers"]
    },
}


@pytest.mark.parametrize("path", [f"{room}/{name}" for room, names in PURE.items() for name in names])
def test_pure_module_rests_on_pure_modules_of_ours_only(path: str) -> None:
    pure = {f"{room}.{name}".replace("/", ".") for room, names in PURE.items() for name in names}
    known = {module.path.replace("/", ".") for module in MODULES}
    (module,) = [one for one in MODULES if one.path == path]
    ours = {name for name in imported(module) if name in known}
    strays = {
        name for name in ours - pure - _VALUES_OF.get(path, set()) if not ROOT.joinpath(*name.split(".")).is_dir()
    }
    assert not strays, f"{path} imports {', '.join(sorted(strays))}, which is not pure: {_PURITY}"


def test_nobody_names_a_module_after_its_kind() -> None:
    words = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc", "shared", "tools"}
    found = [module.path for module in MODULES if words & set(module.path.split("/")[-1].split("_"))]
    assert not found, f"{found}: what two files need has a noun, or it does not exist"


@pytest.mark.parametrize("module", MODULES, ids=[module.path for module in MODULES])
def test_module_and_its_functions_are_short(module: Module) -> None:
    assert module.lines <= LONGEST_MODULE, f"{module.path} has {module.lines} lines: the tail tells good from bad"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= LONGEST_FUNCTION, f"{module.path}: {node.name} has {lines} lines, over {LONGEST_FUNCTION}"


_OUTERMOST = {
    "dispatcher/work/job_tasks": "_guarded",  # one job must not end the others: it is logged and left for redelivery
    "dispatcher/lanes": "_keep_running",  # one provider's lane must not end the others of its process
    # An error here would be taken for a process that vanished; it becomes an outcome, and is logged with its place.
    "dispatcher/transport/guarded": "_value_of",
    "dispatcher/transport/http": "call",
    "ops/cli": "invoke",  # turns what it knows into a sentence, and raises the rest
}


@pytest.mark.parametrize("module", MODULES, ids=[module.path for module in MODULES])
def test_nothing_broad_is_caught_but_in_an_outermost_loop(module: Module) -> None:
    broad = {
        function.name
        for function in ast.walk(module.tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "Exception"))
    }
    strays = sorted(broad - {_OUTERMOST.get(module.path)})
    assert not strays, f"{module.path}: {strays} catch everything: an expected answer is a value, a bug is heard of"


def test_the_walk_sees_the_whole_tree() -> None:
    paths = {module.path for module in MODULES}
    assert {"messaging/model", "messaging/store/migrations/env", "dispatcher/transport/http", "ops/__init__"} <= paths
    text = "from . import setup\nfrom ..model import Lane\ndef f():\n    import nats.aio\n"
    sample = Module("messaging/stream/x", text)
    assert set(imported(sample)) >= {"messaging.stream.setup", "messaging.model", "messaging.model.Lane", "nats.aio"}


# The stream reads its settings from the runtime; only what begins and ends a process needs the stream in turn.
_ABOVE_THE_STREAM = {"messaging/runtime/lifetime", "messaging/runtime/health"}


def test_runtime_knows_the_stream_only_where_processes_begin_and_end() -> None:
    strays = sorted(
        f"{module.path} imports {name}"
        for module in MODULES
        if lies_in(module, ("messaging/runtime",)) and module.path not in _ABOVE_THE_STREAM
        for name in imported(module)
        if within(name, "messaging.stream") or within(name, "messaging.store")
    )
    assert not strays, f"{'; '.join(strays)}: settings, logs and traces would need a server to be tested"
