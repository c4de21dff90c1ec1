"""Reads the settings of `http-json` into a Shape, and reports everything that is wrong with them at once. Pure."""

import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, get_args, get_origin

import cattrs

from messaging.errors import ConfigError
from messaging.runtime.providers_file import Provider
from providers.answer_form import faults_of_pattern, known_charset
from providers.bodies import spell
from providers.http_request import read_request
from providers.http_shape import LONGEST_MISSING_AFTER_S, MATCHES, PATHS, LookUp, Shape
from providers.http_template import NAMES, Faults
from providers.statuses import OUTCOMES

_MOST_PATH_CHARS = 200
_VALUES = ("success_values", "failure_values")
_COMPARED_BY_LOOK_UPS = ("id_path", "success_path", "success_values")
_FILLED = re.compile(r"\{(secret\.|(" + "|".join(sorted(NAMES)) + r")\})")
_FOREIGN_PATH = re.compile(r"^[$/].|\[[0-9*]*\]|^\s|\s$|^\.|\.\.|\.$")
_CLASS = re.compile(r"[1-5]xx")


def read_shape(provider: Provider) -> Shape:
    """Read the settings of one provider; raises ConfigError with all faults."""
    where = f"provider[{provider.name}].settings"
    try:
        shape = _converter().structure(provider.settings, Shape)
    except cattrs.BaseValidationError as exc:
        raise ConfigError([(where, text) for text in cattrs.transform_error(exc, where, _sentence)]) from exc
    faults: Faults = [(f".settings{key}", text) for key, text in _faults(shape)]
    read_request(provider, shape, faults)
    if faults:
        raise ConfigError([(f"provider[{provider.name}]{key}", text) for key, text in faults])
    return shape


def _converter() -> cattrs.Converter:
    """Make the converter of settings. It takes the types of TOML as they are, and makes nothing of another type."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    for kind, read in _READERS:
        if isinstance(kind, type) and kind in (bool, str, float):
            converter.register_structure_hook(kind, partial(_call, read))
        else:
            converter.register_structure_hook_func(partial(operator.eq, kind), partial(_call, read))
    return converter


def _call(read: Callable[[Any], Any], value: Any, _: type) -> Any:
    return read(value)


class _BadValue(ValueError):
    """A value of another type than the setting's; its words are the sentence that is shown."""


def _sentence(exc: BaseException, kind: type | None) -> str:
    if get_origin(kind) is Literal:
        return f"must be one of {', '.join(get_args(kind))}"
    return str(exc) if isinstance(exc, _BadValue) else cattrs.v.format_exception(exc, kind)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or any(isinstance(one, list | dict) for one in value):
        raise _BadValue("must be a list of single values")
    return tuple(map(_text, value))


def _status_list(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        raise _BadValue("must be a list")
    classes = [-int(one[0]) for one in value if _is_class(one)]
    return tuple(classes + [_status_of(one) for one in value if not _is_class(one)])


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _BadValue("must be true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str | bool | int | float):
        raise _BadValue("must be text")
    return spell(value)


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _BadValue("must be a number")
    return float(value)


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _BadValue("must be a table")
    return value


_READERS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (bool, _flag),
    (str, _text),
    (float, _seconds),
    (dict[str, Any], _table),
    (tuple[int, ...], _status_list),
    (tuple[str, ...], _texts),
)


def _is_class(value: Any) -> bool:
    return isinstance(value, str) and _CLASS.fullmatch(value) is not None


def _status_of(value: Any) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", str(value)):
        raise _BadValue('must hold HTTP statuses, or classes of them such as "5xx"')
    return int(value)


def _faults(shape: Shape) -> Iterator[tuple[str, str]]:
    """Find what is wrong with settings that have the right types."""
    for table in ("statuses", "codes"):
        yield from _table_faults(table, getattr(shape, table))
    if shape.look_up is not None:
        yield from _look_up_faults(shape.look_up)
    words = [code for codes in shape.codes.values() for code in codes if not re.fullmatch(r"[1-5][0-9][0-9]", code)]
    if words and not (shape.code_path or shape.code_match):
        yield ".codes", "needs code_path or code_match: nothing says where the codes stand in an answer"
    if shape.method == "GET" and shape.encoding != "query":
        yield ".encoding", "must be query for the method GET"
    yield from _place_faults(shape)
    if shape.charset and not known_charset(shape.charset):
        yield ".charset", "is no charset of texts, such as utf-8, iso-8859-1 or windows-1252"
    yield from _answer_faults(shape)


def _place_faults(shape: Shape) -> Iterator[tuple[str, str]]:
    """Find places in an answer that name none."""
    for name in MATCHES:
        if pattern := getattr(shape, name):
            yield from ((f".{name}", text) for text in faults_of_pattern(pattern))
    paths = {name: getattr(shape, name) for name in PATHS}
    if shape.look_up is not None:
        paths |= {f"look_up.{name}": getattr(shape.look_up, name) for name in ("id_path", "success_path")}
    for name, path in paths.items():
        yield from ((f".{name}", text) for text in _path_faults(path))
    compared: dict[str, str | tuple[str, ...]] = {name: getattr(shape, name) for name in (*PATHS, *_VALUES)}
    compared |= {f"codes.{name}": codes for name, codes in shape.codes.items()}
    if shape.look_up is not None:
        compared |= {f"look_up.{name}": getattr(shape.look_up, name) for name in _COMPARED_BY_LOOK_UPS}
    for where, value in compared.items():
        if any(map(_FILLED.search, (value,) if isinstance(value, str) else value)):
            yield f".{where}", "is compared as it stands: nothing is filled into braces here"


def _path_faults(path: str) -> Iterator[str]:
    """Find spellings of other languages for paths, with which nothing would ever be found."""
    if len(path) > _MOST_PATH_CHARS:
        yield f"is longer than {_MOST_PATH_CHARS} characters"
    if _FOREIGN_PATH.search(path):
        yield "must be names and numbers with dots between them, such as messages.0.id, or $ for the whole answer"


def _table_faults(where: str, table: Mapping[str, tuple[Any, ...]]) -> Iterator[tuple[str, str]]:
    for name in table:
        if name not in OUTCOMES:
            yield f".{where}.{name}", f"is not an outcome; the outcomes are {', '.join(OUTCOMES)}"
        if where == "statuses":
            yield from _range_faults(f".{where}.{name}", table[name])
    names_of: dict[Any, str] = {}
    for name, keys in table.items():
        for key in keys:
            if names_of.setdefault(key, name) != name:
                yield f".{where}.{name}", f"holds what stands under {names_of[key]} too: keep it in one of them"
                break


def _range_faults(where: str, statuses: Iterable[int]) -> Iterator[tuple[str, str]]:
    if wrong := [status for status in statuses if status >= 0 and not 100 <= status <= 599]:
        yield where, f"holds {wrong[0]}, but a status is a number from 100 to 599"


def _look_up_faults(look_up: LookUp) -> Iterator[tuple[str, str]]:
    for name in ("found", "missing"):
        yield from _range_faults(f".look_up.{name}", getattr(look_up, name))
    if set(look_up.found) & set(look_up.missing):
        yield ".look_up.missing", "holds a status that stands under found too: keep it in one of them"
    if bool(look_up.success_path) != bool(look_up.success_values):
        yield ".look_up.success_path", "and success_values must be set together"
    if not 0 <= look_up.waits_s(0.0) <= LONGEST_MISSING_AFTER_S:
        yield ".look_up.missing_after_s", "must be between 0 and 604800"


def _answer_faults(shape: Shape) -> Iterator[tuple[str, str]]:
    """Find settings of the answer that can say neither yes nor no."""
    for name in ("success", "failure"):
        has_path, has_values = bool(getattr(shape, f"{name}_path")), bool(getattr(shape, f"{name}_values"))
        if has_path != has_values:
            yield f".{name}_path", f"and {name}_values must be set together"
    if shape.answer in ("text", "status"):
        for name in PATHS:
            if getattr(shape, name):
                matched = name.replace("_path", "_match")
                yield f".{name}", f"needs an answer in JSON or XML; for text there is {matched}"
    if shape.answer == "text" and not (shape.success_match or shape.id_match):
        yield ".answer", 'text needs success_match or id_match; "status" takes every success status for a yes'
    if shape.answer == "xml" and not (shape.success_path or shape.success_match or shape.id_path or shape.id_match):
        yield ".answer", "xml needs success_path, success_match, id_path or id_match: an error page may be XML too"
