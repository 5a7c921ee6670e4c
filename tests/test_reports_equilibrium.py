"""Tables of learning at equilibrium, from an output written by hand and from those recorded."""

from fake_runs import parse

from dipa.reports import equilibrium

BIAS = {"0.1": {"q": 0.5, "errors": {"1": 0.4, "2": 0.1}, "bounds": {"1": 0.5, "2": 0.25}}}
WAYS = {
    "untrained": {"seconds": 0.0, "psnr": {"20": 27.456, "80": 27.444}},
    "tail 1": {"seconds": 12.4, "iterations": 71.6, "psnr": {"20": 29.0, "80": 29.5}},
}


def test_tables_by_hand():
    head, rows = parse(equilibrium.bias_table({"bias": BIAS}))
    assert head == ["q", "tail 1", "tail 2"]
    assert rows == [["0.500", "4.0e-01 (5.0e-01)", "1.0e-01 (2.5e-01)"]]
    head, rows = parse(equilibrium.ways_table({"ways": WAYS}))
    assert head[1:] == ["K = 20 (dB)", "K = 80 (dB)", "seconds", "applications"]
    assert rows[0] == ["untrained", "27.46", "27.44", "-", "-"]
    assert rows[1] == ["tail 1", "29.00", "29.50", "12", "72"]


def test_the_claim_holds_where_every_error_is_within_its_bound_and_a_longer_tail_is_better():
    assert equilibrium.bounded({"bias": BIAS})
    for errors in ({"1": 0.4, "2": 0.26}, {"1": 0.1, "2": 0.2}):
        wrong = {"0.1": BIAS["0.1"] | {"errors": errors}}
        assert not equilibrium.bounded({"bias": BIAS | {"0.2": wrong["0.1"]}})


def test_what_the_ways_are_worth_in_words():
    def way(seconds, applications, psnr):
        return {"seconds": seconds, "iterations": applications, "psnr": {"20": 1.0, "80": psnr}}

    ways = {
        "untrained": WAYS["untrained"],
        "unrolled, K = 20": {"seconds": 1.0, "psnr": {"20": 1.0, "80": 28.75}},
        "exact, restart": way(80.0, 50, 30.0),
        "tail 1, restart": way(8.0, 50, 30.5),
        "tail 1, from the start": way(9.0, 75, 30.25),
    }
    said = equilibrium.in_words({"ways": ways})
    wanted = "After 80 iterations", "within 0.50 dB", "ends -1.25 dB", "takes 10 times", "1.5 times"
    for word in wanted:
        assert word in said
