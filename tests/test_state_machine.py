"""State as data: allowed moves, required fields, frozen fields. And every machine of the project is complete."""

import importlib
import pkgutil
from enum import StrEnum
from types import SimpleNamespace
from typing import Any

import pytest

import models
from kit.errors import MoveNotAllowed
from kit.state_machine import StateMachine


class Lamp(StrEnum):
    """A lamp."""

    OFF = "off"
    LIT = "lit"
    BROKEN = "broken"


MACHINE = StateMachine(
    noun="lamp",
    moves={Lamp.OFF: (Lamp.LIT, Lamp.BROKEN), Lamp.LIT: (Lamp.OFF, Lamp.BROKEN)},
    required={Lamp.LIT: ("lit_at",), Lamp.BROKEN: ("reason",)},
    frozen={Lamp.LIT: ("colour",)},
)


def lamp(state: Lamp = Lamp.OFF, **values: Any) -> SimpleNamespace:
    return SimpleNamespace(state=state, **({"lit_at": None, "colour": "red", "reason": None} | values))


def test_a_move_that_is_not_in_the_table_changes_nothing_and_says_which() -> None:
    for before, after in ((Lamp.BROKEN, Lamp.LIT), (Lamp.OFF, Lamp.OFF), (Lamp.BROKEN, Lamp.BROKEN)):
        row = lamp(before)
        with pytest.raises(MoveNotAllowed) as refused:
            MACHINE.enter(row, after, lit_at=1, reason="x", colour="blue")
        assert refused.value.facts == {"noun": "lamp", "before": str(before), "after": str(after)}
        assert vars(row) == vars(lamp(before))


def test_a_required_field_that_is_missing_changes_nothing() -> None:
    row = lamp()
    for values in ({}, {"lit_at": None}, {"reason": "no"}):
        with pytest.raises(ValueError, match="lamp needs lit_at to become lit"):
            MACHINE.enter(row, Lamp.LIT, **values)
    assert vars(row) == vars(lamp())


def test_a_required_field_may_stand_in_the_row_already() -> None:
    row = lamp(lit_at=5)
    assert MACHINE.enter(row, Lamp.LIT) == {"state": Lamp.LIT}
    assert row.state is Lamp.LIT
    assert MACHINE.enter(lamp(reason="x"), Lamp.BROKEN, reason="y") == {"state": Lamp.BROKEN, "reason": "y"}
    with pytest.raises(ValueError, match="needs lit_at"):
        MACHINE.enter(lamp(lit_at=5), Lamp.LIT, lit_at=None)


def test_a_frozen_field_stays() -> None:
    row = lamp(Lamp.LIT, lit_at=5)
    with pytest.raises(ValueError, match=r"lamp\.colour is frozen in state lit"):
        MACHINE.enter(row, Lamp.OFF, colour="blue")
    assert (row.state, row.colour) == (Lamp.LIT, "red")
    MACHINE.enter(row, Lamp.OFF, colour="red")
    MACHINE.enter(row, Lamp.BROKEN, reason="dropped", colour="blue")
    assert vars(row) == {"state": Lamp.BROKEN, "lit_at": 5, "colour": "blue", "reason": "dropped"}


def test_the_table_answers() -> None:
    assert MACHINE.allows(Lamp.OFF, Lamp.LIT) and not MACHINE.allows(Lamp.BROKEN, Lamp.OFF)
    assert [MACHINE.is_final(state) for state in Lamp] == [False, False, True]


MACHINES = {
    f"{module.__name__}.{name}": value
    for info in pkgutil.iter_modules(models.__path__, "models.")
    for module in [importlib.import_module(info.name)]
    for name, value in vars(module).items()
    if isinstance(value, StateMachine)
}


def test_the_project_has_machines() -> None:
    assert {"models.bill.BILL_MACHINE", "models.payment.PAYMENT_MACHINE", "models.payment.ATTEMPT_MACHINE"} <= set(
        MACHINES
    )


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_of_the_project_is_closed_and_its_columns_exist(name: str) -> None:
    machine = MACHINES[name]
    enum = type(next(iter(machine.moves)))
    reached = {after for afters in machine.moves.values() for after in afters}
    assert all(isinstance(state, enum) for state in [*machine.moves, *reached, *machine.required, *machine.frozen])
    assert all(state in reached or state in machine.moves for state in enum), "a state that nothing reaches or leaves"
    never_final = {
        "models.discrepancy.DISCREPANCY_MACHINE",  # a case opens again when the same order is doubted anew
        "models.reconciliation.STATEMENT_MACHINE",  # whichever file of a day WeChat gave last counts
    }
    assert any(machine.is_final(state) for state in enum) == (name not in never_final)
    module = importlib.import_module(name.rpartition(".")[0])
    columns = [
        set(model._meta.fields_map)
        for model in vars(module).values()
        if hasattr(model, "_meta") and getattr(model._meta.fields_map.get("state"), "enum_type", None) is enum
    ]
    assert len(columns) == 1
    for fields in [*machine.required.values(), *machine.frozen.values()]:
        assert set(fields) <= columns[0]


def test_late_news_never_overrides_a_final_state() -> None:
    payment = MACHINES["models.payment.PAYMENT_MACHINE"]
    states = {state.value: state for state in type(next(iter(payment.moves)))}
    assert [value for value, state in states.items() if payment.is_final(state)] == ["paid", "suspended"]
    assert payment.allows(states["closed"], states["paid"]) and not payment.allows(states["paid"], states["closed"])
