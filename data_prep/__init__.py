"""One module a corpus, each with `read` (its folder to utterances) and `download`."""

# The name of a corpus, and the module that reads it; imported by whoever needs it.
CORPORA = {
    "common_voice": "data_prep.common_voice",
    "hub": "data_prep.hub",
    "librispeech": "data_prep.librispeech",
    "libritts": "data_prep.libritts",
    "libritts_r": "data_prep.libritts_r",
    "ljspeech": "data_prep.ljspeech",
    "table": "data_prep.table",
    "vctk": "data_prep.vctk",
}
