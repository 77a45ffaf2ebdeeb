"""Closed vocabularies of the schema, the words that stand for them, and older names of keys."""

from __future__ import annotations

import re

AGES = ("Child", "Adult", "Elderly")
GENDERS = ("Female", "Male")
EMOTIONS = ("Anger", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise")

_EMOTION_WORDS = {
    "Anger": "angry anger annoyed annoyance irritated irritation furious fury rage mad frustrated "
    "frustration hostile indignant outraged aggressive",
    "Disgust": "disgusted disgust disgusting contempt contemptuous revolted repulsed",
    "Fear": "fearful fear afraid scared frightened anxious anxiety nervous worried worry terrified "
    "panic panicked tense",
    "Happiness": "happy happiness joy joyful cheerful glad delighted excited excitement amused "
    "amusement pleased enthusiastic proud playful content love grateful",
    "Neutral": "neutral calm none normal serious relaxed bored boredom confident formal other "
    "matter-of-fact unemotional",
    "Sadness": "sad sadness sorrow sorrowful depressed disappointed disappointment grief lonely "
    "melancholy gloomy unhappy tearful hurt",
    "Surprise": "surprised surprise astonished astonishment amazed shocked startled",
}
EMOTION_SYNONYMS: dict[str, str] = {
    word: emotion for emotion, words in _EMOTION_WORDS.items() for word in words.split()
}
_AGE_WORDS = {
    "Child": "child kid boy girl infant baby toddler teen teenager children",
    "Adult": "adult young middle-aged grown-up man woman adulthood",
    "Elderly": "elderly senior old aged elder",
}
AGE_SYNONYMS = {word: age for age, words in _AGE_WORDS.items() for word in words.split()}
_GENDER_WORDS = {"Female": "female woman f girl feminine", "Male": "male man m boy masculine"}
GENDER_SYNONYMS = {
    word: gender for gender, words in _GENDER_WORDS.items() for word in words.split()
}


def canonical_emotion(word: str) -> str | None:
    """The one of :data:`EMOTIONS` that ``word`` (any case) stands for; None when it is unknown.

    >>> canonical_emotion("calm"), canonical_emotion("ANGRY"), canonical_emotion("purple")
    ('Neutral', 'Anger', None)
    """
    return EMOTION_SYNONYMS.get(word.strip().lower())


def fold(key: str) -> str:
    """A key without case, spaces and marks: what makes ``Discrete Events`` ``discreteEvents``."""
    return re.sub(r"[^a-z]", "", key.lower())


#: Folded names under which the UniAudio-Token paper speaks of the same parts -> the key of today.
OLDER_KEYS: dict[str, str] = {
    "linguisticcontent": "transcription",
    "content": "transcription",
    "vocalattributes": "paralinguistics",
    "auditoryscene": "nonLinguisticEvents",
    "summary": "description",
    "transientevents": "discreteEvents",
    "persistentevents": "continuousEvents",
}
