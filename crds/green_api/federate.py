"""The ``federate`` task: rounds of training at sites whose data stays where it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field, StringConstraints

from green_api.base import (
    DnsSubdomain,
    Duration,
    LabelSelector,
    Model,
    Rule,
    ZoneName,
    exactly_one,
    is_duration,
)
from green_api.learning import Data, Export, LearningRate, Network
from green_api.resources import Resources

SERVER: Final = "server"
"""The role that makes the rounds; every other one is a site, by its name."""
MAX_SITES: Final = 32
"""Rules that compare each site with each cost the square of it, and a status holds a row for each."""

DEFAULT_CUT: Final = 0.2
"""Of FedTrimmedAvg; a rule goes by it too."""

SiteName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=32)
]
"""A part of the names of pods and folders, so short."""


class StrategyName(StrEnum):
    """Flower's strategies that are offered."""

    FED_AVG = "FedAvg"
    """The mean of the sites' weights, by their examples (McMahan et al. 2017)."""
    FED_PROX = "FedProx"
    """FedAvg whose sites are held near the global weights (Li et al. 2020)."""
    FED_ADAM = "FedAdam"
    """Adam on the server, over the mean update (Reddi et al. 2021)."""
    FED_TRIMMED_AVG = "FedTrimmedAvg"
    """The mean without the extremes of each weight (Yin et al. 2018)."""
    KRUM = "Krum"
    """The update that is nearest to the others (Blanchard et al. 2017)."""


def _belongs(field: str, owner: StrategyName, value: Callable[[Any], object]) -> Rule:
    return Rule(
        cel=f"!has(self.{field}) || self.name == '{owner}'",
        message=f"{field} belongs to {owner}: set strategy.name to it or remove {field}",
        holds=lambda strategy: value(strategy) is None or strategy.name is owner,
        field=field,
    )


class Strategy(Model):
    """How updates become the next global weights."""

    name: StrategyName = StrategyName.FED_AVG
    """The strategy."""
    proximal_mu: Annotated[float, Field(ge=0, le=100)] | None = None
    """FedProx: weight of the distance to the global weights in a site's loss; by default 0.01."""
    adam_learning_rate: Annotated[float, Field(gt=0, le=100)] | None = None
    """FedAdam: step of the server; by default 0.1."""
    trimmed_share: Annotated[float, Field(ge=0, le=0.45)] | None = None
    """FedTrimmedAvg: share of the values that is cut at each end; by default 0.2. Times `minSites` it must be 1 at least."""
    malicious_sites: Annotated[int, Field(ge=0, le=MAX_SITES)] | None = None
    """Krum: how many sites may be malicious; by default none. `minSites` must be twice that and 3 at least."""

    # Not defaults of the schema: the API server would write them into every job, also where another
    # strategy is asked for, and nobody could tell that they were meant.
    rules: ClassVar[tuple[Rule, ...]] = (
        _belongs("proximalMu", StrategyName.FED_PROX, lambda s: s.proximal_mu),
        _belongs("adamLearningRate", StrategyName.FED_ADAM, lambda s: s.adam_learning_rate),
        _belongs("trimmedShare", StrategyName.FED_TRIMMED_AVG, lambda s: s.trimmed_share),
        _belongs("maliciousSites", StrategyName.KRUM, lambda s: s.malicious_sites),
    )

    @property
    def mu(self) -> float:
        """FedProx's weight of the distance, given or not."""
        return 0.01 if self.proximal_mu is None else self.proximal_mu

    @property
    def step(self) -> float:
        """FedAdam's step, given or not."""
        return 0.1 if self.adam_learning_rate is None else self.adam_learning_rate

    @property
    def cut(self) -> float:
        """FedTrimmedAvg's share at each end, given or not."""
        return DEFAULT_CUT if self.trimmed_share is None else self.trimmed_share


class Partition(Model):
    """A data set parted among simulated sites, for trials."""

    sites: Annotated[int, Field(ge=2, le=MAX_SITES)]
    """How many sites; they are named `site-0`, `site-1` and so on."""
    dirichlet: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Concentration of the classes' shares (Hsu et al. 2019): the smaller, the more uneven; none: even shares."""
    zones: Annotated[list[ZoneName], Field(min_length=1, max_length=MAX_SITES)] | None = None
    """The grid zones of the sites, in turn; by default the job's."""


class Site(Model):
    """A member that holds data."""

    name: SiteName
    """Its name, unique in the job."""
    claim_name: DnsSubdomain
    """The PersistentVolumeClaim with its data, in the job's namespace."""
    zone: ZoneName | None = None
    """The grid zone that it runs in; by default the job's."""
    node_selector: LabelSelector = {}
    """Labels that its node must have, beside those of the zone and over those of `spec.pod`."""
    resources: Resources | None = None
    """What its pod reserves; by default what the job does."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=f"self.name != '{SERVER}'",
            message=f"{SERVER} is the name of the federation's own server: choose another",
            holds=lambda s: s.name != SERVER,
            field="name",
        ),
        Rule(
            cel="!has(self.resources) || self.resources.gpus <= 1",
            message="a site trains on one GPU, more would stay idle: set its resources.gpus to 1 or 0",
            holds=lambda s: s.resources is None or s.resources.gpus <= 1,
            field="resources.gpus",
        ),
    )


class Convergence(Model):
    """No better for a while."""

    rounds: Annotated[int, Field(ge=1, le=10_000)] = 5
    """Rounds without an improvement."""
    improvement: Annotated[float, Field(ge=0, le=1)] = 0.001
    """Less accuracy than that is none."""


class Stop(Model):
    """When to end before the last round."""

    accuracy: Annotated[float, Field(gt=0, le=1)] | None = None
    """Once the test accuracy reaches it."""
    converged: Convergence | None = None
    """Once it rises no more."""


class OnStalled(StrEnum):
    """What becomes of a job whose sites do not come back in time."""

    FINISH = "Finish"
    """It ends with what it has."""
    FAIL = "Fail"
    """It fails; the last round's checkpoint stays."""


class Federate(Model):
    """Train one model at several sites."""

    model: Network
    """What is trained; every site starts from the server's weights."""
    data: Data
    """The data set: of each site, on its claim, or one that is parted."""
    rounds: Annotated[int, Field(ge=1, le=10_000)]
    """Rounds at most."""
    strategy: Strategy = Strategy()
    """How updates become the next weights."""
    local_epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    """Passes of a site over its data in each round."""
    learning_rate: LearningRate = 0.05
    """Of the sites (SGD with momentum 0.9)."""
    fraction_sites: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the sites that is asked in a round."""
    min_sites: Annotated[int, Field(ge=1, le=MAX_SITES)] = 2
    """A round with fewer updates does not count."""
    sites: Annotated[list[Site], Field(min_length=1, max_length=MAX_SITES)] | None = None
    """The members."""
    partition: Partition | None = None
    """Simulated members, for trials."""
    stop: Stop = Stop()
    """When to end sooner."""
    on_stalled: OnStalled = OnStalled.FINISH
    """What happens when too few sites are there for too long."""
    stalled_timeout: Duration = timedelta(hours=1)
    """How long that is before the first round, and where there is no deadline; else as long as the deadline leaves time for the rounds that remain. With a deadline 10 minutes at least."""
    round_timeout: Duration = timedelta(hours=1)
    """A site that has not answered so long after it was asked is left out of the round; at least 1s."""
    exports: Annotated[list[Export], Field(min_length=1, max_length=2)] = [
        Export.SAFETENSORS,
        Export.ONNX,
    ]
    """The formats of the final model."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Seed of the first weights, of the parts of a partition and of the order of the data."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=exactly_one("sites", "partition"),
            message="exactly one of sites and partition must be given",
            holds=lambda f: (f.sites is None) != (f.partition is None),
        ),
        Rule(
            cel=(
                "!has(self.sites) || "
                "self.sites.all(s, self.sites.exists_one(t, t.claimName == s.claimName))"
            ),
            message="two sites cannot share a claim: each site's data is its own",
            holds=lambda f: f.sites is None or len({s.claim_name for s in f.sites}) == len(f.sites),
            field="sites",
        ),
        Rule(
            cel=(
                "!has(self.sites) || self.sites.all(s, self.sites.exists_one(t, t.name == s.name))"
            ),
            message="each site's name must be unique",
            holds=lambda f: f.sites is None or len({s.name for s in f.sites}) == len(f.sites),
            field="sites",
        ),
        Rule(
            cel=(
                "self.minSites <= (has(self.sites) ? self.sites.size() : "
                "has(self.partition) ? self.partition.sites : 0)"
            ),
            message="minSites is more than there are sites; lower it or add sites",
            holds=lambda f: f.min_sites <= f.count,
            field="minSites",
        ),
        Rule(
            cel=(
                f"self.strategy.name != '{StrategyName.KRUM}' || self.minSites >= "
                "2 * (has(self.strategy.maliciousSites) ? self.strategy.maliciousSites : 0) + 3"
            ),
            message="Krum needs minSites to be 2 * strategy.maliciousSites + 3 at least, else the "
            "malicious ones can win: raise minSites (there must be as many sites), lower "
            "strategy.maliciousSites or choose another strategy",
            holds=lambda f: (
                f.strategy.name is not StrategyName.KRUM
                or f.min_sites >= 2 * (f.strategy.malicious_sites or 0) + 3
            ),
            field="minSites",
        ),
        Rule(
            cel=(
                f"self.strategy.name != '{StrategyName.FED_TRIMMED_AVG}' || double(self.minSites) * "
                "(has(self.strategy.trimmedShare) ? double(self.strategy.trimmedShare) : "
                f"{DEFAULT_CUT}) >= 1.0"
            ),
            message="FedTrimmedAvg would cut nothing: minSites times strategy.trimmedShare "
            f"({DEFAULT_CUT} where it is not given) must be 1 at least: raise one of them",
            holds=lambda f: (
                f.strategy.name is not StrategyName.FED_TRIMMED_AVG
                or f.min_sites * f.strategy.cut >= 1.0
            ),
            field="minSites",
        ),
        Rule(
            cel=f"!{is_duration('self.roundTimeout')} || "
            "duration(self.roundTimeout) >= duration('1s')",
            message="roundTimeout must be at least 1s: no site answers sooner",
            holds=lambda f: f.round_timeout >= timedelta(seconds=1),
            field="roundTimeout",
        ),
        Rule(
            cel="self.exports.all(e, self.exports.exists_one(f, f == e))",
            message="each export format is named once",
            holds=lambda f: len(set(f.exports)) == len(f.exports),
            field="exports",
        ),
    )

    @property
    def count(self) -> int:
        """How many sites there are."""
        if self.sites is not None:
            return len(self.sites)
        return self.partition.sites if self.partition is not None else 0

    @property
    def names(self) -> list[str]:
        """The sites' names; simulated ones are counted from 0."""
        if self.sites is not None:
            return [site.name for site in self.sites]
        return [f"site-{number}" for number in range(self.count)]

    @property
    def roles(self) -> tuple[str, ...]:
        """The server, then the sites."""
        return (SERVER, *self.names)

    def site(self, role: str) -> Site | None:
        """The member of a name; None for the server and for simulated ones."""
        return next((s for s in self.sites or () if s.name == role), None)

    def zone_of(self, role: str) -> str | None:
        """The grid zone that a site is in; None for the job's own."""
        site = self.site(role)
        if site is not None:
            return site.zone
        zones = self.partition.zones if self.partition is not None else None
        if zones is None or role not in self.names:
            return None
        return zones[self.names.index(role) % len(zones)]

    def resources_of(self, role: str) -> Resources | None:
        """What a site's pod reserves; None for what the job does."""
        site = self.site(role)
        return site.resources if site is not None else None
