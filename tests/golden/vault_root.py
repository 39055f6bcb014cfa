#!/usr/bin/env python3
"""The root of a raw image by docs/FORMATS.md alone: an independent implementation of the Merkle map.

usage: vault_root.py IMAGE        prints the root
       vault_root.py --made SIZE  prints the root of the known image of SIZE bytes (made below) that the tests use
"""
import hashlib
import struct
import sys

BLOCK = 65536


def leaf(block):
    return hashlib.sha256(b"\0" + block.ljust(BLOCK, b"\0")).digest()


def inner(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def root(blocks, size):
    """blocks: the blocks in order."""
    row = [leaf(block) for block in blocks]
    width = 256
    while width < len(row):
        width *= 256
    zero = leaf(b"")
    while width > 1:
        row = [inner(row[i], row[i + 1] if i + 1 < len(row) else zero) for i in range(0, len(row), 2)]
        zero = inner(zero, zero)
        width //= 2
    return hashlib.sha256(b"\2" + struct.pack("<IIQ", 0, BLOCK, size) + row[0]).hexdigest()


def made(size):
    """The known image: a 64-bit xorshift, every third block zero, the fifth as the second."""
    state = 0x9E3779B97F4A7C15
    blocks = []
    for index in range((size + BLOCK - 1) // BLOCK):
        words = []
        for _ in range(BLOCK // 8):
            state ^= (state << 13) & 0xFFFFFFFFFFFFFFFF
            state ^= state >> 7
            state ^= (state << 17) & 0xFFFFFFFFFFFFFFFF
            words.append(state)
        block = struct.pack("<%dQ" % len(words), *words)
        if index % 3 == 2:
            block = bytes(BLOCK)
        if index == 4:
            block = blocks[1]
        blocks.append(block)
    last = size - (len(blocks) - 1) * BLOCK
    blocks[-1] = blocks[-1][:last]
    return blocks


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "--made":
        size = int(arguments[1])
        print(root(made(size), size))
        return 0
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    blocks = []
    with open(arguments[0], "rb") as image:
        while block := image.read(BLOCK):
            blocks.append(block)
        size = image.tell()
    print(root(blocks, size))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
