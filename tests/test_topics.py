"""Ad-hoc topics of the synthetic corpus: their truth, and what of it was judged."""

import numpy as np
import polars as pl
import pytest

from videomatch.metrics import avs
from videomatch.synthetic import vocabulary
from videomatch.synthetic.annotations import annotate, facts_of_video
from videomatch.synthetic.latent import family_of, library_latent, split_of
from videomatch.synthetic.options import SyntheticOptions
from videomatch.synthetic.texts import MIN_RELEVANT, topics

OPTIONS = SyntheticOptions(videos=400, copies=0.0, topics=14)


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    return annotate(seed=3, shards=1, options=OPTIONS)


def test_a_topic_is_shown_by_the_videos_that_have_its_factors():
    latents = {f"w{n}": library_latent(3, n, OPTIONS) for n in range(400) if split_of(family_of(n)) == "test"}
    made = topics(latents, 14, seed=3)
    assert len(made) == 14 and len({t.text for t in made}) == 14
    about = next(t for t in made if t.text.startswith("a video about "))
    ((factor, name),) = about.facts
    truth = [v for v, s in latents.items() if vocabulary.NAMES["topic"][s.factors["topic"]] == name]
    assert factor == "topic" and about.relevant == truth and len(truth) >= MIN_RELEVANT
    for topic in made:  # all that a sentence names is true of the relevant videos
        true = {v: {(factor, value) for factor, value, *_ in facts_of_video(s)} for v, s in latents.items()}
        assert set(topic.relevant) <= {v for v, facts in true.items() if facts.issuperset(topic.facts)}
    assert made == topics(latents, 14, seed=3) != topics(latents, 14, seed=4)


def test_what_was_judged_is_true_and_only_a_part(tables: dict[str, pl.DataFrame]):
    strata, relevance = tables["strata"], tables["relevance"]
    relevant = relevance.filter(pl.col("query_id").str.starts_with("topic")).select("query_id", "reference_id")
    judged = strata.filter(pl.col("judgement") == 1).select("query_id", "reference_id")
    assert 0 < len(judged) < len(relevant) and len(judged.join(relevant, on=relevant.columns, how="anti")) == 0
    denied = strata.filter(pl.col("judgement") == 0).select("query_id", "reference_id")
    assert len(denied.join(relevant, on=relevant.columns)) == 0
    assert (strata.filter(pl.col("stratum") == "1")["judgement"] >= 0).all()
    pooled = strata.group_by("query_id").len()["len"].unique().to_list()
    splits = tables["splits"].filter(pl.col("split") == "captions_topics")
    assert pooled == [len(splits.filter(pl.col("role") == "reference"))]
    assert len(splits.filter(pl.col("role") == "query")) == 14


def test_without_topics_there_is_no_pool():
    assert "strata" not in annotate(seed=3, shards=1, options=SyntheticOptions(videos=30))


def test_the_best_order_is_estimated_to_be_about_perfect(tables: dict[str, pl.DataFrame]):
    values = []
    for _, pool in tables["strata"].group_by("query_id"):
        ranked = pool.sort("judgement", descending=True)  # relevant ones, then others, then unjudged ones
        stratum = (ranked["stratum"] == "2").cast(pl.Int64).to_numpy()
        judgement = ranked["judgement"].to_numpy()
        values.append(avs.inferred(stratum, judgement, (stratum, judgement))["infAP"])
    assert 0.9 < np.mean(values) <= 1.3
