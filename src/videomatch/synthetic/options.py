"""Options of the synthetic corpus, shared by the stage ``render`` and by the reader ``corpora/generated.py``."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

Share = Annotated[float, Field(ge=0, lt=1)]


class SyntheticOptions(BaseModel, frozen=True, strict=True, extra="forbid"):
    """Size and make-up of the corpus; durations in s.

    Args:
        videos: library and queries together.
        size: short side of the most frequent picture, px, even; other pictures are a little smaller or larger.
        median_duration: of log-normal lengths.
        pairs: labelled similarity pairs per library video. The AIAC training labels have 67,899 / 63,613 = 1.07
            (own count of the public label file); more pairs go into the giant component.
        copies: share of all videos that are queries for same-source search (with or without a copy in them).
        clean: share of those queries that contain no copy.
        lengths: the data set whose statistics the copies have, in videos as long as its videos.
        distractors: further videos, references that no query copies, at few frames a second.
        openings: share of the videos that open and close like others of their channel, and fade from black and to it.
        captions: per library video, in both languages.
        topics: ad-hoc topics over the test split with many relevant videos each, judged in part.
        narrated: whether titles and transcripts are those of web videos and mostly tell what is seen (nobody is heard).
        mispaired, chatter: shares of narrated videos whose title, or transcript, tells of another video, or of none.
        silent: share of the videos without a sound track.
        speech: whether presenters talk (text to speech by espeak-ng); otherwise there is only music and noise.
        families: whether facts tell the family of a library video, whose members are its siblings.
        frame_rate: frames a second at most; faster videos leave out every other frame, or more.
        test_seed: of the videos, texts, labels and topics of the test split; null: the seed of the data set.
    """

    videos: int = Field(240, ge=30, lt=10_000_000)
    size: int = Field(144, ge=64, multiple_of=2)
    min_duration: float = Field(4.0, ge=1)
    max_duration: float = 30.0
    median_duration: float = 6.5
    pairs: float = Field(1.07, gt=0)
    copies: Share = 0.2
    clean: Share = 0.3
    lengths: Literal["vcsl", "vsc2022"] = "vsc2022"
    distractors: int = Field(0, ge=0)
    openings: Share = 0.0
    captions: int = Field(4, ge=1, le=20)
    topics: int = Field(0, ge=0)
    narrated: bool = False
    mispaired: Share = 0.0
    chatter: Share = 0.0
    silent: Share = 0.08
    speech: bool = True
    families: bool = False
    frame_rate: float = Field(60.0, ge=2, le=60)
    test_seed: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if not self.min_duration <= self.median_duration <= self.max_duration:
            raise ValueError(
                "expected min_duration <= median_duration <= max_duration, got "
                f"{self.min_duration}, {self.median_duration}, {self.max_duration}"
            )
        if self.mispaired + self.chatter > float(self.narrated):
            shares = f"mispaired {self.mispaired} and chatter {self.chatter}"
            raise ValueError(f"{shares}: expected `narrated: true`, and shares of at most 1 together")
        return self

    @property
    def told_of(self) -> dict[str, float]:
        """Shares of the titles, and of the transcripts, of narrated videos by whose scenes they tell."""
        return {"own": 1 - self.mispaired - self.chatter, "other": self.mispaired, "none": self.chatter}

    @property
    def num_queries(self) -> int:
        """Videos that are queries for same-source search."""
        return round(self.videos * self.copies)

    @property
    def num_library(self) -> int:
        """All other videos."""
        return self.videos - self.num_queries
