"""UAS-QA: questions about audio made from its annotations (arXiv 2604.12506, section 2.3)."""
