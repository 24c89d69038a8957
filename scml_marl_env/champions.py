"""The agents that teams submitted to the SCML leagues of 2024 to 2026, as the package `scml-agents` holds them.

`fractional` marks agents that quote fractional prices. negmas 0.16 ends a negotiation on one, so these agents hardly
trade or never (`--fractional-prices accept` of `experiments/evaluate.py` gives them the behaviour of their time).
Places are the published ones; those of 2026 are not published. How each does today: experiments/champions.py.
"""

import difflib
import importlib.util
from dataclasses import dataclass

_FOLDERS = {"std": "standard", "oneshot": "oneshot"}


@dataclass(frozen=True)
class Champion:
    """One submitted agent.

    Attributes:
        name: in this package.
        year: of its league.
        track: "std" or "oneshot".
        path: import path "package.module:Class".
        place: "1st", "2nd", "3rd", "finalist", or "".
        in_pool: member of the pool of opponents `champions` of its year: a winner or finalist that trades.
        fractional: it quotes fractional prices.
        needs: packages that it imports beyond those that scml and negmas bring, by their names on PyPI.
    """

    name: str
    year: int
    track: str
    path: str
    place: str = ""
    in_pool: bool = False
    fractional: bool = False
    needs: tuple[str, ...] = ()


def _agent(name: str, year: int, track: str, path: str, **more: object) -> Champion:
    return Champion(name, year, track, f"scml_agents.scml{year}.{_FOLDERS[track]}.{path}", **more)  # type: ignore[arg-type]


ALL: tuple[Champion, ...] = (
    _agent("group2", 2024, "std", "coyoteteam:Group2"),
    _agent("ax", 2024, "std", "team_178:AX", place="finalist", in_pool=True),
    _agent("dog", 2024, "std", "team_181:DogAgent", place="finalist", fractional=True),
    _agent("matching-pennies", 2024, "std", "team_193:MatchingPennies"),
    _agent("s5s", 2024, "std", "team_atsunaga:S5s", fractional=True),
    _agent("cautious-std", 2024, "std", "team_miyajima_std:CautiousStdAgent", place="finalist", in_pool=True),
    _agent("penguin", 2024, "std", "team_penguin:PenguinAgent", place="1st", in_pool=True),
    _agent("quick-decision", 2024, "std", "teamyuzuru:QuickDecisionAgent", place="finalist", in_pool=True),
    _agent("xeno-sota", 2025, "std", "team_253:XenoSotaAgent", place="2nd", in_pool=True),
    _agent("ultra-super", 2025, "std", "team_254:UltraSuperMiracleSoraFinalAgentZ", place="3rd", in_pool=True),
    _agent("ponpon", 2025, "std", "team_255:PonponAgent"),
    _agent("katsudon", 2025, "std", "team_268:KATSUDONAgent"),
    _agent("lita-yr", 2025, "std", "team_276:LitaAgentYR"),
    _agent("price-trend", 2025, "std", "team_280:PriceTrendStdAgent", place="finalist", in_pool=True),
    _agent("as0", 2025, "std", "team_atsunaga:AS0", place="1st", in_pool=True),
    _agent("ok", 2026, "std", "team_20941.okagent:OkAgent"),
    _agent(
        "balanced-greedy",
        2026,
        "std",
        "team_20964.balanced_greedy.balanced_greedy_std_agent:BalancedGreedyStdAgent",
        fractional=True,
    ),
    _agent("arion", 2026, "std", "team_21021.arion_strategists.arion_agent:ArionAgent"),
    _agent("emsel", 2026, "std", "team_21084.emsel:EmSel"),
    _agent("shimijimi-shijimi", 2026, "std", "team_21127.strategy:ShimijimiShijimi"),
    _agent("age-age", 2026, "std", "team_21165.age_age_agent.age_age_agent:AgeAgeAgent"),
    _agent("agent01", 2026, "std", "team_21195.agent01std.core.agent:Agent01StdAgent"),
    _agent("gs3", 2026, "std", "team_21201.gs3_4_submit:GS3"),
    _agent("taka-link", 2026, "std", "team_21282.taka_link_agent:TakaLinkAgent", place="finalist", in_pool=True),
    _agent("cow", 2026, "std", "team_21303.cow:COW", place="finalist", fractional=True),
    _agent("sugai", 2026, "std", "team_21313.sugai_agent.sugai_agent:SugaiAgent", fractional=True),
    _agent("group4", 2026, "std", "team_21559.group4:Group4", fractional=True),
    _agent("sbd", 2026, "std", "team_21650.sbd_agent:SBD", place="finalist", in_pool=True),
    _agent(
        "horizon-aware", 2026, "std", "team_21653.horizon_aware_agent:HorizonAwareAgent", place="finalist", in_pool=True
    ),
    _agent("superimagent-z", 2026, "std", "team_21683.agent_v2:SuperimagentZ"),
    _agent("rohn", 2026, "std", "team_21695.rohn:Rohn", place="finalist", fractional=True),
    _agent("kota", 2026, "std", "team_21747.kotaagent.kotaagent:KotaAgent"),
    _agent("heystd", 2026, "std", "team_21800.hi.std:Std", place="finalist", in_pool=True),
    _agent("std-omega", 2026, "std", "team_21803.std_agent.entry:StdOmegaNegotiator"),
    _agent("supmerkos", 2026, "std", "team_22272.supmerkos_v3:SupmerkosV3"),
    _agent("group2", 2024, "oneshot", "coyoteteam:Group2"),
    _agent("peak-pact", 2024, "oneshot", "ozug4:PeakPact"),
    _agent("cp-dist", 2024, "oneshot", "team_144:CPDistAgent"),
    _agent("rt", 2024, "oneshot", "team_164:RTAgent"),
    _agent("dist-redist", 2024, "oneshot", "team_171:DistRedistAgent", place="3rd", in_pool=True),
    _agent("fair-t4t", 2024, "oneshot", "team_172:FairT4T"),
    _agent("matching-pennies", 2024, "oneshot", "team_193:MatchingPennies", place="2nd", in_pool=True),
    _agent("suzuka", 2024, "oneshot", "team_abc:SuzukaAgent", place="finalist"),
    _agent(
        "cautious-oneshot", 2024, "oneshot", "team_miyajima_oneshot:CautiousOneShotAgent", place="1st", in_pool=True
    ),
    _agent("epsilon-greedy", 2024, "oneshot", "teamyuzuru:EpsilonGreedyAgent", place="3rd", in_pool=True),
    _agent("mat", 2025, "oneshot", "mat:MATAgent"),
    _agent("rchan", 2025, "oneshot", "takafam:Rchan", place="1st", in_pool=True),
    _agent("lita-yr", 2025, "oneshot", "team_276:LitaAgentYR"),
    _agent("analysis", 2025, "oneshot", "team_283:AnalysisAgent"),
    _agent("almost-equal", 2025, "oneshot", "team_284:AlmostEqualAgent", place="1st", in_pool=True),
    _agent("ppo", 2025, "oneshot", "team_293:PPOAgent", needs=("stable-baselines3", "tensorflow")),
    _agent("hori-yama", 2025, "oneshot", "team_star_up:HoriYamaAgent", place="finalist"),
    _agent("dist-redist-2025", 2025, "oneshot", "team_ukku:DistRedistAgent", place="finalist"),
    _agent("cost-averse", 2025, "oneshot", "teamyuzuru:CostAverseAgent", place="1st", in_pool=True),
    _agent("efr-dist", 2026, "oneshot", "team_21022.efr_dist.agent:EFRDistOneShotAgent"),
    _agent("penalty-avoid", 2026, "oneshot", "team_21041.penalty_avoid.penalty_avoid_agent:PenaltyAvoidAgent"),
    _agent("steady-sync", 2026, "oneshot", "team_21056.steadysyncagent.agent:SteadySyncAgent"),
    _agent("assari-asari", 2026, "oneshot", "team_21089.strategy:AssariAsari"),
    _agent("isobe", 2026, "oneshot", "team_21095.isobeagent:IsobeAgent"),
    _agent(
        "time-weighted",
        2026,
        "oneshot",
        "team_21155.time_weighted_agent2:TimeWeightedAgent",
        place="finalist",
        in_pool=True,
    ),
    _agent("yamashita", 2026, "oneshot", "team_21196.yamashitaagent:YamashitaAgent"),
    _agent("agent03", 2026, "oneshot", "team_21244.agent03.core.agent:Agent03Agent"),
    _agent(
        "lattice",
        2026,
        "oneshot",
        "team_21484.latice_oneshot_agent:LatticeOneShotAgent",
        place="finalist",
        in_pool=True,
    ),
    _agent("group3", 2026, "oneshot", "team_21562.group3:Group3"),
    _agent("supvelikos", 2026, "oneshot", "team_21619.supvelikos:Supvelikos"),
    _agent("bayesian", 2026, "oneshot", "team_21637.bayesian_agent:BayesianAgent", place="finalist", in_pool=True),
    _agent("skri", 2026, "oneshot", "team_21707.skri:SKRI"),
    _agent("heyoneshot", 2026, "oneshot", "team_21798.hi.oneshot:Oneshot"),
    _agent("ysi", 2026, "oneshot", "team_21799.ysi:Ysi"),
    _agent("oneshot-omega", 2026, "oneshot", "team_21804.oneshot_agent.entry:OneshotOmegaNegotiator"),
    _agent("sbd-oneshot", 2026, "oneshot", "team_21813.sbdoneshot_agent:SBDOneShot", place="finalist", in_pool=True),
)
"""By track, year, and team."""


def names(track: str) -> list[str]:
    """Every name of a track."""
    return [champion.name for champion in ALL if champion.track == track]


def named(name: str, track: str) -> Champion:
    """The agent of a name.

    Raises:
        ValueError: if the track has none of this name, with the nearest one.
    """
    for champion in ALL:
        if champion.name == name and champion.track == track:
            return champion
    close = difflib.get_close_matches(name, names(track), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names(track))}."
    raise ValueError(f"No competition agent {name!r} on the {track} track; {hint}")


def pool(track: str, year: int) -> list[Champion]:
    """The pool of opponents of a year."""
    return [each for each in ALL if each.in_pool and each.track == track and each.year == year]


def check_installed(champion: Champion) -> None:
    """Refuses an agent that could not be imported.

    Raises:
        ModuleNotFoundError: with the command that installs what is missing.
    """
    if importlib.util.find_spec("scml_agents") is None:
        raise ModuleNotFoundError(
            f"{champion.name!r} is a competition agent of the package scml-agents, which is not installed. "
            "Install it without its gigabytes of dependencies: pip install --no-deps scml-agents"
        )
    missing = [package for package in champion.needs if importlib.util.find_spec(package.replace("-", "_")) is None]
    if missing:
        raise ModuleNotFoundError(
            f"The competition agent {champion.name!r} also needs {', '.join(missing)}: pip install {' '.join(missing)}"
        )
