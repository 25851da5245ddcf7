"""The table of scores in the README."""

from showcase import BEGIN, END, table_rows, with_table


def test_only_text_between_the_markers_is_replaced():
    text = f"before\n{BEGIN}\nold\n{END}\nafter"
    assert with_table(text, "| new |\n") == f"before\n{BEGIN}\n| new |\n{END}\nafter"


def test_replacing_the_table_twice_changes_nothing():
    text = with_table(f"{BEGIN}{END}", "a\n")
    assert with_table(text, "a\n") == text


def test_a_row_compares_the_error_of_the_model_with_the_random_walk(gspc):
    import pandas as pd

    from forecastlib import evaluate
    from forecastlib.forecasts import COLUMNS

    origins = gspc.index[-120:-20]
    close = gspc.loc[origins, "close"]
    made = pd.DataFrame({"origin": origins, "last_close": close.to_numpy(), "predicted_price": 1.5 * close.to_numpy()})
    made = made.assign(symbol="^GSPC", horizon=5, model="m", model_version="m", direction="up").reindex(
        columns=list(COLUMNS)
    )
    evaluation = evaluate(made, gspc)
    (row,) = table_rows(evaluation, "m")
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:2] == ["^GSPC", "5"]
    assert cells[2] == f"{evaluation.scores.loc[('m', 5), 'mae']:,.1f}"
    assert cells[3] == f"{evaluation.scores.loc[('random_walk', 5), 'mae']:,.1f}"
    assert cells[5].startswith("worse than the random walk, p = 0.")
