"""config.toml and its twin: one truth, and one sentence for every mistake."""

import pytest

from bot.config import Config, parse
from bot.core.errors import ConfigError
from tests.conftest import ROOT

TEXT = (ROOT / "config.toml").read_text(encoding="utf-8")


def test_config_toml_lists_exactly_the_defaults():
    parsed = parse(TEXT)

    assert parsed == Config()


def test_config_toml_names_every_setting():
    import tomllib

    def keys(values, prefix=""):
        for key, value in values.items():
            yield from keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]

    listed = tomllib.loads(TEXT)
    listed.pop("profile")

    assert sorted(keys(listed)) == sorted(keys(Config().model_dump()))


@pytest.mark.parametrize("profile", ["alert", "document", "headline", "creator", "before"])
def test_every_profile_is_valid(profile):
    assert isinstance(parse(TEXT, profile=profile), Config)


def test_headline_profile_has_the_headline_numbers():
    config = parse(TEXT, profile="headline")

    assert config.oscillator.money_flow_length == 34
    assert config.oscillator.hyperwave_length == 14
    assert config.oscillator.divergence_sensitivity == 2
    assert config.overlays.autopilot == "mid"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("smc.swing_lenght=3", ["[smc]", "'swing_lenght'", "did you mean 'swing_length'"]),
        ("risk.risk_fraction=2", ["risk.risk_fraction = 2", "> 0 and <= 0.1", "fraction of equity"]),
        ("trade.tp1_fraction=0.9", ["[trade]", "at most 1 (100 %)"]),
        ("strategy.htf_source=foo", ["strategy.htf_source = 'foo'", "'both', 'smc' or 'pac'"]),
        ("strategy.gates.discont=true", ["[strategy.gates]", "did you mean 'discount'"]),
        ("supertrend_ai.factor_max=0.5", ["[supertrend_ai]", "factor_max"]),
        ("risk.leverage_ramp=[20, 10]", ["[risk]", "rising"]),
        ("hedge.enabled=perhaps", ["hedge.enabled = 'perhaps'", "boolean"]),
        ("entry.max_slippage=nan", ["entry.max_slippage"]),
        ('events.impact=["High"]', ["events.impact", "'High'", "'high', 'medium' or 'low'"]),
        ("hgde.enabled=true", ["--set hgde.enabled: ", "'hgde'", "did you mean 'hedge'"]),
        ("nonsense", ["--set 'nonsense'", "section.key=value"]),
    ],
)
def test_a_wrong_setting_gets_one_sentence_with_the_way_out(override, words):
    with pytest.raises(ConfigError) as caught:
        parse(TEXT, overrides=(override,))

    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence


def test_a_mistake_of_the_file_is_not_told_as_one_of_the_command_line():
    with pytest.raises(ConfigError, match=r"^config\.toml: "):
        parse("[risk]\nrisk_fraction = 2\n", overrides=("smc.swing_length=50",))


def test_a_misspelt_profile_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'alert'"):
        parse(TEXT, profile="alrt")


def test_broken_toml_names_the_line():
    with pytest.raises(ConfigError, match="line 1"):
        parse("[smc\n")


def test_a_profile_that_breaks_a_rule_is_found_without_being_chosen():
    with pytest.raises(ConfigError, match="profile bad"):
        parse("[profile.bad]\nrisk = { risk_fraction = 3 }\n")


def test_bare_words_are_strings_on_the_command_line():
    config = parse(TEXT, overrides=("smc.order_block_mitigation=high_low", "venue.testnet.rest_url=http://127.0.0.1:1"))

    assert config.smc.order_block_mitigation == "high_low"
    assert config.venue.testnet.rest_url == "http://127.0.0.1:1"
