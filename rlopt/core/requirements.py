"""Requirements of a part on the run around it, and the error where they are not met."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from rlopt.errors import UserError

if TYPE_CHECKING:
    from rlopt.core.curvature import Curvature


@dataclass(frozen=True)
class Work:
    """What one `prepare` of a solver and one solve take, to within a factor of a few."""

    products: float = 0.0  # of M with a vector
    operations: float = 0.0  # floating-point operations besides


@dataclass(frozen=True)
class Requirements:
    """All that a part asks of a run besides its methods. The defaults ask for nothing.

    A part declares it in its class, ``requirements = Requirements(whole_batch=True)``, or as a property where it
    depends on the part's options. rlopt.config.compatibility reads it and refuses a run that does not meet it, before
    anything is written.
    """

    one_rank: bool = False
    """The part works on one rank only: it reads or keeps samples, and those of other ranks are elsewhere."""

    needs_damping: bool = False
    """The part has no solution at lambda = 0."""

    needs_chain: bool = False
    """The part reads activation derivatives, which only a chain of Linear layers and known activations gives."""

    reads_damping: bool = True
    """False: lambda does not change the result, so that the damping's options have no effect."""

    reads_samples: bool = False
    """The part reads each sample's own gradient, layer by layer, which a network with memory does not give."""

    root_alone: bool = False
    """A solver that needs ROOT reads the root itself and no layer records, so that any network will do."""

    solves_again: bool = False
    """A step that asks for the direction at another theta, on the samples of the same batch."""

    reads_actions: bool = False
    """The part reads the actions that were taken (or a critic's targets)."""

    first_step_only: bool = False
    """The part holds at the policy that took the actions only, so for the first step after a rollout, and never for a
    value, which takes no actions."""

    batches: int = 1
    """A metric's curvature is made of the samples of so many steps, at most."""

    whole_batch: bool = False
    """The part measures on all samples of a rollout, or on whole episodes: minibatches are refused."""

    linear: bool = True
    """A solver's x is linear in g, and the solver learns nothing from it, so that it can precondition another."""

    check_size: Callable[[int], None] | None = None
    """P, the number of parameters, -> None. Raises Incompatible where the part does not fit a theta of this size."""

    check_samples: Callable[[int, int], None] | None = None
    """K and B, the metric's factors for each sample and the samples of a step, -> None. Raises Incompatible where
    these are too many."""

    holds_matrix: bool = False
    """A metric that is stored as a matrix of P^2 numbers."""

    work: Callable[[Curvature], Work] | None = None
    """A solver's work for a curvature, where it may be more than some ten products. `rlopt inspect` reads it."""

    unread: Mapping[str, str] = field(default_factory=dict)
    """Options of this part that have no effect at present -> the option whose value makes it so."""

    instead: Mapping[str, Any] = field(default_factory=dict)
    """Options of this part -> values with which it would ask for less, for the advice of a refusal."""


class Remedy(Enum):
    """The kind of change that would help, which rlopt.config.compatibility words as one types it."""

    LONGER_ROLLOUT = "more steps of each environment in a rollout"
    FEWER_SAMPLES = "fewer samples in a step, or another solver"
    WHOLE_BATCH = "steps on the whole batch"
    ONE_PROCESS = "one process in place of several ranks, or another solver"
    OTHER_SOLVER = "a solver that needs less of the metric or of the network"
    OTHER_METRIC = "a metric that models the KL divergence or the objective, or a constant damping"
    COMPATIBLE_CRITIC = "a critic that gives the policy its direction"


class Incompatible(UserError, ValueError):
    """Parts, sizes or samples that do not go together: a ValueError in the library, exit code 2 in a run.

    ``reason`` speaks of mathematics and sizes. ``remedy`` is the kind of change that would help, if any, and
    ``options`` are options of the same part with values that would.
    """

    def __init__(self, reason: str, remedy: Remedy | None = None, **options: Any):
        super().__init__(reason)
        self.reason, self.remedy, self.options = reason, remedy, options


def with_inner(asked: Requirements, option: str, **own: Any) -> Requirements:
    """Those of a part that has another one, with requirements ``asked``, for its ``option``; ``own`` replace others.

    Options of the other part are named as this one's: of.largest in place of largest.
    """

    def named(options: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{option}.{name}": value for name, value in options.items()}

    def checked(check: Callable[..., None] | None) -> Callable[..., None] | None:
        def wrapped(*sizes: int) -> None:
            try:
                assert check
                check(*sizes)
            except Incompatible as error:
                raise Incompatible(error.reason, error.remedy, **named(error.options)) from error

        return wrapped if check else None

    unread = {name: f"{option}.{other}" for name, other in named(asked.unread).items()} | own.pop("unread", {})
    size, samples = checked(asked.check_size), checked(asked.check_samples)
    instead = named(asked.instead)
    return replace(asked, unread=unread, instead=instead, check_size=size, check_samples=samples, **own)
