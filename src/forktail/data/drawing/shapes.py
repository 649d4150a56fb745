"""When are two drawn characters the same shape? A comparison that no affine map can change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forktail.data.drawing.between_pixels import between_pixels

TWINS = 0.86
"""Two characters more similar than this are one shape.

Set from the 566 letters and digits that all fonts hold: copies (A of three alphabets) stand at 0.998 to 1, turned or
mirrored letters (6/9, b/d/p/q, u/n) at 0.997 to 1, capitals that repeat the small letter (o/O, c/C, s/S, x/X, v/V)
at 0.98 to 0.99, each in the typeface where they are most alike; the loosest pairs that a reader would still call one
shape, W/M and Z/N, at 0.877 and 0.863. Half of all pairs lie below 0.7.
"""

RADII, ANGLES = 20, 96  # the polar grid on which whitened shapes are compared
REACH = 2.8  # its radius, in standard deviations of the ink
BLOCK = 64  # shapes that are compared at once; bounds the memory
STROKE = 0.3  # variance in pixels^2 added to the ink's: a straight line must not have an infinitely thin ellipse


@dataclass(frozen=True, eq=False)
class Signatures:
    """What remains of ``M`` shapes once position, size, slant and stretch are taken away.

    Args:
        spectrum: ``(M, RADII, ANGLES // 2 + 1)`` complex: the Fourier series over the angle, ring by ring. A turn of
            the shape shifts its phases, a reflection conjugates it.
    """

    spectrum: npt.NDArray[np.complex64]

    def __len__(self) -> int:
        return len(self.spectrum)


def signatures(bitmaps: npt.NDArray[np.uint8]) -> Signatures:
    r"""Whiten shapes and describe them on a polar grid.

    With the ink's centroid :math:`m` and covariance :math:`\Sigma`, the map :math:`x \mapsto \Sigma^{-1/2}(x - m)`
    takes every affine image of a shape to the same picture, up to a rotation or a reflection, and
    ``similarity`` runs over those.

    Args:
        bitmaps: ``(M, H, W)`` grey levels, ink bright on 0.

    Returns:
        ``M`` signatures, each of zero mean and unit norm over the disc.

    Raises:
        ValueError: If a bitmap holds no ink.

    Example:
        >>> bar = np.zeros((1, 16, 16), np.uint8)
        >>> bar[0, 4:12, 7:9] = 255
        >>> lying = bar.transpose(0, 2, 1)
        >>> round(float(similarity(signatures(bar), signatures(lying))[0, 0]), 3)
        1.0
    """
    ink = bitmaps.astype(np.float64)
    mass = ink.sum(axis=(1, 2))
    if not mass.all():
        raise ValueError(f"bitmap {int(np.argmin(mass))} holds no ink")
    centre, spread = _moments(ink / mass[:, None, None])
    values, vectors = np.linalg.eigh(spread + STROKE * np.eye(2))
    root = vectors * np.sqrt(values)[:, None, :] @ vectors.transpose(0, 2, 1)

    radius = (np.arange(RADII) + 0.5) * (REACH / RADII)
    angle = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    disc = np.stack([np.outer(radius, np.sin(angle)), np.outer(radius, np.cos(angle))])  # (2, RADII, ANGLES), y then x
    rows, columns = np.einsum("mij,jra->imra", root, disc) + centre.T[:, :, None, None]
    whitened = between_pixels(ink, rows, columns)

    area = (radius / radius.sum() / ANGLES)[:, None]
    whitened -= (whitened * area).sum(axis=(1, 2), keepdims=True)
    whitened /= np.sqrt((whitened**2 * area).sum(axis=(1, 2), keepdims=True))
    return Signatures(np.fft.rfft(whitened * np.sqrt(area), axis=2).astype(np.complex64))


def similarity(first: Signatures, second: Signatures) -> npt.NDArray[np.float32]:
    """Correlate every shape of one list with every shape of another, at the best rotation and reflection.

    Args:
        first: ``M`` signatures.
        second: ``P`` signatures.

    Returns:
        ``(M, P)`` correlations over the whitened disc; 1 means the same shape up to an affine map.
    """
    best = np.full((len(first), len(second)), -1.0, np.float32)
    for start in range(0, len(first), BLOCK):
        rows = slice(start, start + BLOCK)
        for mirrored in (second.spectrum, second.spectrum.conj()):
            cross = np.einsum("mrk,prk->mpk", first.spectrum[rows], mirrored.conj(), optimize=True)
            np.maximum(best[rows], np.fft.irfft(cross, ANGLES, axis=2).max(axis=2), out=best[rows])
    return best


def _moments(ink: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Centroid ``(M, 2)`` and covariance ``(M, 2, 2)`` in pixels, y then x, of pictures that each sum to one."""
    grid = np.indices(ink.shape[1:]).astype(np.float64)
    centre = np.einsum("mhw,ihw->mi", ink, grid)
    second = np.einsum("mhw,ihw,jhw->mij", ink, grid, grid, optimize=True)
    return centre, second - centre[:, :, None] * centre[:, None, :]
