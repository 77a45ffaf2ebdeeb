"""placeholder"""


def is_codec(folder):
    return False
