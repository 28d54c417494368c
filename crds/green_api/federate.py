"""The ``federate`` task: rounds of training at sites whose data stays where it is.

Not yet a part of ``Task``: a manifest that asks for it is refused until every part of it works.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from green_api.base import DnsLabel, Duration, Model, Rule, exactly_one
from green_api.task import Data, Network


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


class Strategy(Model):
    """How updates become the next global weights."""

    name: StrategyName = StrategyName.FED_AVG
    """The strategy."""
    proximal_mu: Annotated[float, Field(ge=0, le=100)] = 0.01
    """FedProx: weight of the distance to the global weights in a site's loss."""
    server_learning_rate: Annotated[float, Field(gt=0, le=100)] = 0.1
    """FedAdam: step of the server."""
    trimmed_share: Annotated[float, Field(ge=0, lt=0.5)] = 0.2
    """FedTrimmedAvg: share of the values that is cut at each end."""
    malicious_sites: Annotated[int, Field(ge=0, le=100)] = 0
    """Krum: how many sites may be malicious."""


class Partition(Model):
    """A data set parted among simulated sites, for trials."""

    sites: Annotated[int, Field(ge=2, le=100)]
    """How many sites."""
    dirichlet: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Concentration of the classes' shares (Hsu et al. 2019): the smaller, the more uneven; none: even shares."""


class Site(Model):
    """A member that holds data."""

    name: DnsLabel
    """Its name, unique in the job."""
    claim_name: DnsLabel
    """The PersistentVolumeClaim with its data, in the job's namespace."""


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
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.05
    """Of the sites (SGD with momentum 0.9)."""
    fraction_sites: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the sites that is asked in a round."""
    min_sites: Annotated[int, Field(ge=1, le=100)] = 2
    """A round with fewer updates does not count."""
    sites: Annotated[list[Site], Field(min_length=1, max_length=100)] | None = None
    """The members."""
    partition: Partition | None = None
    """Simulated members, for trials."""
    stop: Stop = Stop()
    """When to end sooner."""
    on_stalled: OnStalled = OnStalled.FINISH
    """What happens when too few sites are there for too long."""
    stalled_timeout: Duration = timedelta(hours=1)
    """How long that is where there is no deadline."""

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
