"""The sliders' data; what a browser makes of them is in tests/ext/test_reading.py."""

import numpy as np

from companion import results_language
from companion.pages.slider import language_data
from companion.paper_stages import find_named


def test_the_language_slider_has_the_attention_of_the_stored_heads():
    run = results_language.language("laptop", 0)
    settings = results_language.language_settings("laptop")
    stages = find_named(run["llc"], run["behaviour"], settings.stages)[2]
    table = run["patterns"]
    data = language_data(run["behaviour"], run["llc"], stages, run["heads"], {}, table)
    heads = sorted({*zip(table.layer, table["head"], strict=True)})
    assert data["pattern_names"] == [f"head {layer}:{head}" for layer, head in heads]
    for step, shown in zip(data["pattern_steps"], data["patterns"], strict=True):
        for (layer, head), percents in zip(heads, shown, strict=True):
            rows = table[(table.step == step) & (table.layer == layer) & (table["head"] == head)]
            stored = rows.sort_values(["query", "key"]).attention
            assert np.abs(100 * stored.to_numpy() - percents).max() <= 0.5 + 1e-9
    plain = language_data(run["behaviour"], run["llc"], stages, run["heads"], {}, None)
    assert "patterns" not in plain and plain["scores"] == data["scores"]
