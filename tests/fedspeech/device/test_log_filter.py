"""No log and no crash report holds what stood in a variable, wherever the exception comes from."""

import ast
import builtins
import importlib
import inspect
import io
import logging
import pkgutil
import re
import sys
import threading
import traceback
import warnings

import numpy as np
import pytest
from phone import AREA, Phone

import clients
import fedspeech.device
from fedspeech.audio.ring_buffer import RingBuffer
from fedspeech.device.capture import Capture
from fedspeech.device.egress import Door, ProtectedUpdate
from fedspeech.device.log_filter import WITHHELD, crash_report, filtered
from fedspeech.extras import MissingExtra

PLANTED = "MARKER call anna 555 1234"
MODULES = sorted(
    module.name
    for package in (fedspeech.device, clients)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
)


class Planted(str):
    """A text that stands in for any argument, and shows in whatever is said of it."""

    def __getattr__(self, name):
        raise AttributeError(f"{PLANTED} has no {name}")

    def __call__(self, *_, **__):
        raise RuntimeError(PLANTED)


@pytest.fixture
def logged():
    """What a logger of this process writes under the filter."""
    stream = io.StringIO()
    logger = logging.getLogger("a phone")
    logger.propagate, handler = False, logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s %(name)s %(lineno)d"))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    with filtered():
        yield logger, stream
    logger.removeHandler(handler)


def routines(module):
    """Functions of a module, and those of its classes."""
    for _, found in inspect.getmembers(module):
        if getattr(found, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(found):
            yield found
        elif inspect.isclass(found):
            yield found
            yield from (one for _, one in inspect.getmembers(found, inspect.isfunction)
                        if one.__module__ == module.__name__)  # fmt: skip


def called(routine):
    """Calls it with the planted text for whatever it asks for."""
    try:
        parameters = inspect.signature(routine).parameters.values()
    except (TypeError, ValueError):
        return
    text = Planted(PLANTED)
    plain = [text for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    routine(*plain, **{p.name: text for p in parameters if p.kind is p.KEYWORD_ONLY})


@pytest.mark.parametrize(
    "name",
    # Importing the phones of a node brings torch and Flower.
    [pytest.param(n, marks=pytest.mark.slow if n.startswith("clients") else ()) for n in MODULES],
)
def test_exceptions_of_every_module_hold_nothing_that_was_planted(name, logged, monkeypatch):
    logger, stream = logged
    raised, module = 0, importlib.import_module(name)
    if name == "clients.node":
        monkeypatch.setattr("subprocess.Popen", lambda *_, **__: 1 / 0)
        monkeypatch.setattr("sys.exit", lambda *_: 1 / 0)
    for routine in routines(module):
        try:
            called(routine)
        except BaseException as error:
            raised += 1
            logger.exception("failed")
            logger.error("failed: %s, %r", error, error)
            logger.error(f"failed: {error}")
            stream.write("\n".join(crash_report(error)))
    assert "MARKER" not in stream.getvalue()
    assert "anna" not in stream.getvalue()
    if raised:
        assert f"{name}" in stream.getvalue() or "call" in stream.getvalue()
    assert raised or name.rpartition(".")[2] in ("log_filter",) or not list(routines(module))


def modules(package):
    """Those of a package and of its folders at any depth, but for what needs a missing extra."""
    root = importlib.import_module(package)
    names = [module.name for module in pkgutil.walk_packages(root.__path__, f"{package}.")]
    for name in (package, *names):
        try:
            yield importlib.import_module(name)
        except MissingExtra:
            continue


def checked(error, logger, stream):
    """Whether an exception says something to Python's own report; the filter's says nothing."""
    logger.error("failed: %s", error, exc_info=error)
    logger.error(f"failed: {error}")
    stream.write("\n".join(crash_report(error)))
    return "MARKER" in "".join(traceback.format_exception(error))


class Anything(Planted):
    """The planted text, which is whatever an expression asks of it."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_, **__):
        return self

    def __getitem__(self, _):
        return self

    def __format__(self, _):
        return PLANTED


SAYS = re.compile(
    r"(_?LOG(GER)?|logger|logging|warnings)\."
    r"(debug|info|warn|warning|error|exception|critical|log)\("
)


def statements(module):
    """Every `raise`, call of a logger and warning of a module, with its function's name."""
    tree = ast.parse(inspect.getsource(module))
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                logs = isinstance(node, ast.Expr) and SAYS.match(ast.unparse(node))
                if isinstance(node, ast.Raise) or logs:
                    yield function.name, node


def ran(module, name, statement):
    """Runs a statement where it stands, with the planted text in each variable of its function."""
    known = {*vars(module), *dir(builtins)}
    names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)} - known
    head = f"def {name}({', '.join(sorted(names))}):\n"
    body = f"    try:\n     raise LookupError({PLANTED!r})\n    except LookupError:\n     pass"
    tree = ast.parse(head + body)
    tree.body[0].body[0].handlers[0].body = [statement]
    space = dict(vars(module))
    exec(compile(ast.fix_missing_locations(tree), module.__file__, "exec"), space)
    space[name](**{one: ValueError(PLANTED) if one == "error" else Anything(PLANTED)
                   for one in names})  # fmt: skip


EVERYWHERE = [
    "fedspeech.device",
    *(pytest.param(name, marks=pytest.mark.slow)
      for name in ("fedspeech", "clients", "server", "simulations")),
]  # fmt: skip


@pytest.mark.parametrize("package", EVERYWHERE)
def test_what_any_module_raises_logs_or_warns_says_nothing_of_a_variable(package, logged, capsys):
    """Each statement is run as it stands, without the conditions that lead to it."""
    logger, stream = logged
    raised = told = 0
    for module in modules(package):
        for name, statement in statements(module):
            try:
                ran(module, name, statement)
            except BaseException as error:
                raised += 1
                told += checked(error, logger, stream)
    said = stream.getvalue() + "".join(capsys.readouterr())
    assert "MARKER" not in said
    assert "anna" not in said
    assert raised > 5
    assert told > raised / 2, "Python itself would have told"


@pytest.mark.parametrize("package", EVERYWHERE)
def test_an_exception_in_any_function_of_any_module_says_only_where(package, logged):
    """Forced at its first line, so that nothing of it runs; its arguments are the planted text."""
    logger, stream = logged
    text, functions, told = Anything(PLANTED), 0, 0

    def step(frame, event, _):
        if event == "call" and frame.f_code is code:
            raise RuntimeError("".join(map(str, frame.f_locals.values())) + PLANTED)

    for module in modules(package):
        for routine in routines(module):
            plain = inspect.unwrap(routine)
            if not inspect.isfunction(plain):
                continue
            code = plain.__code__
            many = code.co_argcount, code.co_kwonlyargcount
            named = code.co_varnames[many[0] : sum(many)]
            sys.settrace(step)
            try:
                made = plain(*[text] * many[0], **dict.fromkeys(named, text))
                if inspect.iscoroutine(made):
                    made.send(None)
                next(made)
            except RuntimeError as error:
                sys.settrace(None)
                functions += 1
                told += checked(error, logger, stream)
            finally:
                sys.settrace(None)
            assert f"{module.__name__}.{code.co_name}, line" in stream.getvalue()
    assert "MARKER" not in stream.getvalue()
    assert "anna" not in stream.getvalue()
    assert told == functions > 5, "Python itself would have told"


@pytest.mark.usefixtures("logged")
def test_warnings_say_their_type_and_place_alone(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"heard {PLANTED}", UserWarning, stacklevel=1)
        np.float32(3e38) * np.float32(10)  # numpy's own, which shows the line of source
    said = capsys.readouterr().err
    assert "UserWarning\n  test_log_filter.py, line" in said
    assert "RuntimeWarning\n  test_log_filter.py, line" in said
    assert "MARKER" not in said
    assert "3e38" not in said


def life(folder):
    """A phone's day, with planted content in the variables of every step."""
    phone = Phone(folder)
    phone.agree()
    text = phone.keep("transcript", PLANTED.encode())
    heard = RingBuffer(seconds=0.1, rate_hz=1000)
    heard.write(np.frombuffer((PLANTED * 8).encode(), dtype=np.int16)[:100].copy())
    clip = Capture(heard, phone.vault, area=AREA).trigger(0.1, purpose="federated_training")
    said = phone.use(text).content.decode()
    assert said == PLANTED
    door = Door(consents=phone.consents, area=AREA, vector_length=4, bits=8,
                stages={})  # fmt: skip
    door.let_out(ProtectedUpdate(round_id=bytes(16), words=np.arange(4, dtype=np.uint32)), made_s=1)
    phone.vault.trained([clip])
    phone.vault.revoke(phone.consents.receipts()[0].id)
    phone.store.close()


@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_an_exception_at_any_function_of_a_phones_day_says_only_where(tmp_path, logged, stride):
    """Forced at the first call of each function in turn, with the text in variables around it."""
    logger, stream = logged
    seen, places = [], set()

    def step(frame, event, _):
        code = frame.f_code
        place = (frame.f_globals.get("__name__", ""), code.co_name, code.co_firstlineno)
        if place[0].startswith("fedspeech.device.") and place not in seen:
            seen.append(place)
            if len(seen) % stride:
                return
            places.add(place[0])
            spoken = PLANTED + "".join(frame.f_locals)  # kept alive by the traceback
            raise RuntimeError(spoken)

    for day in range(160):
        sys.settrace(step)
        try:
            life(tmp_path / str(day))
            done = True
        except RuntimeError as error:
            sys.settrace(None)
            done = False
            logger.exception("a phone failed")
            report = "\n".join(crash_report(error))
            assert seen[-1][0] in report
            assert "MARKER" not in report
        finally:
            sys.settrace(None)
        if done:
            break
    assert done, "more functions than days"
    assert len(seen) > 60
    parts = ("store", "vault", "consent", "capture", "egress", "record_keys", "phone_log")
    if stride == 1:
        assert {f"fedspeech.device.{part}" for part in parts} <= places
    assert "MARKER" not in stream.getvalue()
    assert "RuntimeError" in stream.getvalue()


def test_literal_templates_and_counts_are_shown_and_all_else_by_its_type(logged):
    logger, stream = logged
    logger.info("%d records, loss %s, of %s, number %s", 3, 0.731, PLANTED, 5551234)
    assert "3 records, loss <float>, of <str>, number <int>" in stream.getvalue()
    for text in (PLANTED, f"heard {PLANTED}", "heard " + PLANTED):
        logger.info(text)
    assert stream.getvalue().count(WITHHELD) == 3
    assert "MARKER" not in stream.getvalue()


def test_causes_are_named_and_say_nothing(logged):
    logger, stream = logged
    try:
        try:
            raise KeyError(PLANTED)
        except KeyError as error:
            raise ValueError(PLANTED) from error
    except ValueError:
        logger.exception("failed")
    assert "ValueError\n" in stream.getvalue()
    assert "KeyError\n" in stream.getvalue()
    assert "MARKER" not in stream.getvalue()


def test_an_uncaught_exception_of_a_thread_says_only_where(logged, capsys):
    def fails():
        text = PLANTED
        raise ValueError(text)

    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()
    said = capsys.readouterr().err
    assert "ValueError" in said
    assert "fails, line" in said
    assert "MARKER" not in said
