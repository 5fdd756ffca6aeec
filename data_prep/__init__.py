"""One module a corpus, each with `read` (its folder to utterances) and `download`."""
