"""What tini's tests use of PyPI's module of this name."""


class BitMap:
    def __init__(self, bits):
        self.bits = bits

    @classmethod
    def fromstring(cls, text):
        return cls([n for n, bit in enumerate(reversed(text)) if bit == "1"])

    def nonzero(self):
        return self.bits
