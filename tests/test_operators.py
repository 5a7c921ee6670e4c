import copy
import itertools
import json
import math

import deepinv
import numpy as np
import pytest
import torch
from batteries import (
    check_adjoint,
    check_linear,
    images,
    inpainting,
    matrix_physics,
    refuses,
    relative,
    rng,
    size_of,
)
from deepinv.physics import SinglePixelCamera
from members import DOTS, FOREIGN, LARGE, MRI, OPERATORS, OURS, SINGLE_PIXEL, SUPER_RESOLUTION

from dipa import linalg, operators
from dipa.operators import (
    ORDERINGS,
    FourierBasis,
    HartleyBasis,
    KroneckerBasis,
    MatrixBasis,
    PixelBasis,
    hadamard_mask,
    mri,
    mri_pair,
    plane_basis,
    range_basis,
    rebuild_basis,
    single_pixel,
    super_resolution,
)
from dipa.operators.bases import Basis, TransformBasis, hadamard_matrix
from dipa.operators.measure import measure
from dipa.operators.mri import gaussian_mask, mirrored, nested_columns, unshared_columns
from dipa.operators.single_pixel import DEEPINV_ORDERINGS
from dipa.solvers import lipschitz

# --- every operator -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATORS)
def test_adjoint(name):
    physics = OPERATORS[name]()
    check_adjoint(physics, size_of(physics), 1e-6, torch.float32)
    check_adjoint(physics.double(), size_of(physics), 1e-14, torch.float64)


@pytest.mark.parametrize("name", OPERATORS)
def test_linear(name):
    physics = OPERATORS[name]()
    check_linear(physics, size_of(physics))


@pytest.mark.parametrize("name", OPERATORS)
def test_norm_is_that_of_the_dense_matrix(name):
    physics = OPERATORS[name]()
    largest = torch.linalg.svdvals(linalg.dense(physics.A, size_of(physics))).max().item() ** 2
    assert lipschitz(physics, size_of(physics)) == pytest.approx(largest, rel=1e-4)
    assert linalg.squared_norm(physics.A_adjoint_A, size_of(physics)) == pytest.approx(
        largest, rel=1e-4
    )


@pytest.mark.parametrize("name", OPERATORS)
def test_range_basis_is_orthonormal_and_spans_the_data_gradients(name):
    physics = OPERATORS[name]()
    basis = range_basis(physics, size_of(physics))
    rows = basis.image(torch.eye(basis.dim)).flatten(1)
    matrix = linalg.dense(physics.A, size_of(physics))
    rank = torch.linalg.matrix_rank(matrix.double(), rtol=1e-6).item()
    assert basis.dim == rank and rows.shape == (rank, matrix.shape[1])
    assert torch.allclose(rows @ rows.T, torch.eye(rank), atol=1e-5)
    x = images(2, *size_of(physics))
    assert relative(basis.coordinates(x), x.flatten(1) @ rows.T) < 1e-5
    gradient = physics.A_adjoint(physics.A(x) - physics.A(images(2, *size_of(physics), seed=1)))
    assert relative(basis.project(gradient), gradient) < 1e-4
    projector = linalg.dense(basis.project, size_of(physics))
    assert (
        relative(projector, torch.linalg.pinv(matrix.double(), rtol=1e-6).float() @ matrix) < 1e-3
    )


@pytest.mark.parametrize("name", OPERATORS)
def test_plane_basis_is_orthonormal_and_spans_every_channel(name):
    physics = OPERATORS[name]()
    channels, height, width = size_of(physics)
    basis = plane_basis(physics, size_of(physics))
    matrix = linalg.dense(physics.A, size_of(physics))
    planes = matrix.reshape(-1, height * width).double()
    rows = basis.image(torch.eye(basis.dim)).flatten(1)
    assert basis.img_size == (1, height, width)
    assert (
        basis.dim == torch.linalg.matrix_rank(planes, rtol=1e-6).item() <= range_basis(physics).dim
    )
    assert torch.allclose(rows @ rows.T, torch.eye(basis.dim), atol=1e-5)
    projector = torch.linalg.pinv(planes, rtol=1e-6) @ planes
    assert relative(linalg.dense(basis.project, basis.img_size).double(), projector) < 1e-3
    if channels == 1:
        assert (
            torch.equal(basis.index, range_basis(physics).index)
            if name in OURS
            else basis.dim == range_basis(physics).dim
        )


@pytest.mark.parametrize("make", [range_basis, plane_basis])
@pytest.mark.parametrize("name", OPERATORS | LARGE)
def test_stored_basis_is_rebuilt(name, make):
    basis = make((OPERATORS | LARGE)[name]())
    again = rebuild_basis(basis.kind, basis.img_size, basis.state_dict())
    x = images(2, *basis.img_size)
    assert type(again) is type(basis) and again.dim == basis.dim
    assert torch.equal(again.coordinates(x), basis.coordinates(x))
    assert torch.equal(again.project(x), basis.project(x))


@pytest.mark.parametrize("name", LARGE)
def test_large_operators(name):
    """What dense matrices show for the small ones: adjoint, linearity, norm, orthonormal bases
    that span the gradients.
    """
    physics = LARGE[name]()
    size = size_of(physics)
    check_adjoint(physics, size, 1e-6, torch.float32)
    check_linear(physics, size)
    assert 0.99 < linalg.squared_norm(physics.A_adjoint_A, size) / physics.norm_sq < 1 + 1e-5, (
        "a power method stays below"
    )
    gradient = physics.A_adjoint(torch.randn(physics.A(images(2, *size)).shape, generator=rng(0)))
    for basis, seen in (
        (range_basis(physics), gradient),
        (plane_basis(physics), gradient.reshape(-1, 1, *size[1:])),
    ):
        coordinates = torch.randn((2, basis.dim), generator=rng(1))
        assert relative(basis.coordinates(basis.image(coordinates)), coordinates) < 1e-5, (
            "orthonormal rows"
        )
        assert relative(basis.project(seen), seen) < 1e-5
        assert linalg.dot_test_error(basis.coordinates, basis.image, seen[:2], coordinates) < 1e-6


@pytest.mark.parametrize(
    ("name", "rank", "planes"),
    [("single pixel, 128", 3277, 3277), ("MRI, 50", 1000, 850), ("real MRI, 50", 850, 850)]
    + [("super-resolution, 110 / 4", 784, 784), ("super-resolution, 110 / 3", 3 * 1369, 1369)]
    + [("super-resolution, 110 / 1", 12100, 12100)],
)
def test_sizes_of_the_papers(name, rank, planes):
    """0.2 x 16384; 10 of 50 columns in real and imaginary parts, 17 with their mirror images;
    28 x 28 and 37 x 37 samples.
    """
    physics = LARGE[name]()
    assert range_basis(physics).dim == rank and plane_basis(physics).dim == planes


@pytest.mark.parametrize("name", OURS | LARGE)
def test_description_is_plain_and_rebuilds_the_operator(name):
    physics = (OURS | LARGE)[name]()
    made = physics.describe()
    assert json.loads(json.dumps(made)) == made
    assert made["img_size"] == list(physics.img_size) and made["noise_sigma"] == physics.noise_sigma
    kind, size, digest = made.pop("kind"), tuple(made.pop("img_size")), made.pop("mask", None)
    if name in ("MRI, any mask", "real MRI, any mask", "MRI, nested teacher"):
        made |= {"mask": physics.mask[0, 0]}
        made["mask_seed"] = made["mask_seed"] or 0
    again = getattr(operators, kind)(size, **made)
    x = images(1, *size)
    assert torch.equal(again.A(x), physics.A(x)) and again.noise_sigma == physics.noise_sigma
    assert again.describe().get("mask") == digest


@pytest.mark.parametrize("gamma", [0.3, 50.0, torch.tensor([0.3, 50.0]).reshape(2, 1, 1, 1)])
@pytest.mark.parametrize("name", OURS)
def test_proximity_operator_solves_its_normal_equations(name, gamma):
    physics = OURS[name]().double()
    size = size_of(physics)
    z, x = (torch.randn((2, *size), generator=rng(seed), dtype=torch.float64) for seed in (0, 1))
    y = physics.A(x) + 0.1
    gram = linalg.dense(physics.A_adjoint_A, size, dtype=torch.float64)
    for start in (z, None, 0.0):
        centre = z if start is z else torch.zeros_like(z)
        gains = torch.as_tensor(gamma, dtype=torch.float64).reshape(-1).expand(2)
        sides = (gains[:, None] * physics.A_adjoint(y).flatten(1) + centre.flatten(1))[..., None]
        expected = torch.linalg.solve(gains[:, None, None] * gram + torch.eye(len(gram)), sides)
        assert relative(physics.prox_l2(start, y, gamma).flatten(1), expected[..., 0]) < 1e-6


@pytest.mark.parametrize("name", OURS)
def test_pseudo_inverse_and_the_other_gram(name):
    physics = OURS[name]().double()
    matrix = linalg.dense(physics.A, size_of(physics), dtype=torch.float64)
    y = torch.randn(
        physics.A(images(2, *size_of(physics)).double()).shape,
        generator=rng(0),
        dtype=torch.float64,
    )
    inverse = torch.linalg.pinv(matrix, rtol=1e-6)
    assert relative(physics.A_dagger(y).flatten(1), y.flatten(1) @ inverse.T) < 1e-4
    assert relative(physics.A_A_adjoint(y).flatten(1), y.flatten(1) @ matrix @ matrix.T) < 1e-6


@pytest.mark.parametrize("name", OURS)
def test_gradients_pass_through(name):
    physics = OURS[name]()
    x = images(2, *size_of(physics)).requires_grad_()
    weights = torch.randn(x.shape, generator=rng(0))
    (physics.A_adjoint_A(x) * weights).sum().backward()
    assert relative(x.grad, physics.A_adjoint_A(weights)) < 1e-5


# --- single pixel ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SINGLE_PIXEL)
def test_gram_is_a_projector_of_rank_m_per_channel(name):
    physics = SINGLE_PIXEL[name]()
    channels, height, width = physics.img_size
    gram = linalg.dense(physics.A_adjoint_A, size_of(physics))
    m = max(1, round(physics.ratio * height * width))
    assert torch.allclose(gram @ gram, gram, atol=1e-5) and torch.allclose(gram, gram.T, atol=1e-6)
    assert gram.trace().item() == pytest.approx(channels * m, abs=1e-3)
    assert torch.allclose(
        linalg.dense(physics.range_basis().project, size_of(physics)), gram, atol=1e-6
    )


@pytest.mark.parametrize("ordering", DEEPINV_ORDERINGS)
@pytest.mark.parametrize("ratio", [0.1, 0.37, 1.0])
def test_equals_deepinv(ordering, ratio):
    shape = (2, 16, 16)
    ours = single_pixel(shape, ratio=ratio, ordering=ordering)
    theirs = deepinv.physics.SinglePixelCamera(round(ratio * 256), shape, ordering=ordering)
    x = images(3, *shape)
    y = theirs.A(x)
    assert torch.equal(ours.mask, theirs.mask)
    assert relative(ours.A(x), y) < 1e-6
    assert relative(ours.A_adjoint(y), theirs.A_adjoint(y)) < 1e-6
    assert relative(ours.A_dagger(y), theirs.A_dagger(y)) < 1e-6
    assert relative(ours.prox_l2(x, y, 0.7), theirs.prox_l2(x, y, 0.7)) < 1e-6
    assert relative(ours.A_adjoint_A(x), theirs.A_adjoint_A(x)) < 1e-6


def test_transform_is_the_orthonormal_hadamard_transform():
    matrix = hadamard_matrix(8)
    sylvester = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(3):
        sylvester = torch.kron(
            torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64), sylvester
        )
    assert torch.allclose(matrix, sylvester / 8**0.5, atol=1e-15)
    x = images(1, 1, 8, 8, dtype=torch.float64)
    assert (
        relative(single_pixel((1, 8, 8), ratio=1.0).double().A(x), sylvester @ x @ sylvester / 8)
        < 1e-15
    )


@pytest.mark.parametrize("ordering", ORDERINGS)
@pytest.mark.parametrize("size", [(8, 8), (4, 16), (16, 2)])
def test_masks_have_m_ones_and_are_nested(ordering, size):
    if ordering == "cake_cutting" and size[0] != size[1]:
        refuses(
            lambda: single_pixel((1, *size), ratio=0.5, ordering=ordering),
            "img_size",
            "H = W",
            "cake_cutting",
        )
        return
    height, width = size
    masks = [hadamard_mask(height, width, m, ordering) for m in range(1, height * width + 1)]
    for m, mask in enumerate(masks, start=1):
        assert (
            mask.shape == size
            and mask.sum().item() == m
            and set(mask.unique().tolist()) <= {0.0, 1.0}
        )
    assert masks[0][0, 0] == 1, "the mean comes first"
    assert all((small <= large).all() for small, large in itertools.pairwise(masks))


def test_orderings_differ():
    """Each is another order of the 64 coefficients of an 8 x 8 image."""
    orders = {
        tuple(sum(hadamard_mask(8, 8, m, name) for m in range(1, 65)).flatten().tolist())
        for name in ORDERINGS
    }
    assert len(orders) == len(ORDERINGS)


# Natural rows 0, 1, 2, 3 of the 4 x 4 Hadamard matrix change sign 0, 3, 1, 2 times; so sequency
# order is 0, 2, 3, 1.
BY_HAND = {
    # Gray codes 0000 0001 0011 0010 0110 with their bits reversed: 0, 8, 12, 4, 6, down the columns
    # of the image
    ("sequency", 5): [(0, 0), (0, 2), (0, 3), (0, 1), (2, 1)],
    # Gray-decoded 0 1 2 3 4 = 0 1 3 2 7 with their bits reversed: 0, 8, 12, 4, 14, down the columns
    # of the image
    ("sequency_permutation", 5): [(0, 0), (0, 2), (0, 3), (0, 1), (2, 3)],
    # the grid in that order (at 4 the same as sequency order) along both axes, row by row: four
    # entries, then two
    ("sequency_rows", 6): [(0, 0), (0, 1), (0, 2), (0, 3), (2, 0), (2, 2)],
    # the triangle u + v <= 2 of the grid in sequency order
    ("zig_zag", 6): [(0, 0), (0, 2), (2, 0), (0, 3), (3, 0), (2, 2)],
    # u v + (u^2 + v^2) / 4 = 0, 1/4, 1/4, 1, 1, 3/2 for the same triangle, at least 13/4 elsewhere
    # but (0, 3), (3, 0)
    ("xy", 6): [(0, 0), (0, 2), (2, 0), (0, 3), (3, 0), (2, 2)],
    # one piece, then the first of two, three, ... pieces: the mean and the two half-half patterns
    ("cake_cutting", 3): [(0, 0), (0, 2), (2, 0)],
}


@pytest.mark.parametrize(("ordering", "m"), BY_HAND)
def test_masks_at_4_by_4_by_hand(ordering, m):
    expected = torch.zeros(4, 4)
    for row, column in BY_HAND[ordering, m]:
        expected[row, column] = 1
    assert torch.equal(hadamard_mask(4, 4, m, ordering), expected)


def test_cake_cutting_is_deepinvs_with_ties_in_their_own_sequence(monkeypatch):
    """numpy's default sort breaks ties as the processor does: at 32 x 32 six functions have 360
    pieces, and which five of them are among the first 717 differed from machine to machine.
    """
    unstable = np.argsort
    monkeypatch.setattr(
        "deepinv.physics.singlepixel.np.argsort", lambda a, **_: unstable(a, kind="stable")
    )
    for side in (8, 32):
        for m in (3, round(0.2 * side**2), round(0.7 * side**2)):
            camera = SinglePixelCamera(m, (1, side, side), ordering="cake_cutting")
            assert torch.equal(hadamard_mask(side, side, m, "cake_cutting"), camera.mask[0, 0])


def test_sequency_rows_permutes_as_the_old_releases_did():
    """Gray-decoded 0..7 = 0 1 3 2 7 6 4 5 with bits reversed: 0 4 6 2 7 3 1 5. Four whole rows,
    then five of row 7.
    """
    expected = torch.zeros(8, 8)
    expected[[0, 4, 6, 2]] = 1
    expected[7, [0, 4, 6, 2, 7]] = 1
    assert torch.equal(hadamard_mask(8, 8, 37, "sequency_rows"), expected)


def test_rectangles_are_sampled_along_their_own_axes():
    """8 x 4, down the columns: entry k of the 1-D order is at row k % 8, column k // 8."""
    mask = hadamard_mask(8, 4, 2, "sequency_permutation")
    assert mask.nonzero().tolist() == [[0, 0], [0, 2]]
    mask = hadamard_mask(8, 4, 5, "sequency_rows")
    assert mask.nonzero().tolist() == [[0, 0], [0, 1], [0, 2], [0, 3], [4, 0]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"img_size": (1, 12, 16)}, ("height", "12", "power of two")),
        ({"img_size": (1, 16, 0)}, ("width", "0", "power of two")),
        ({"img_size": (16, 16)}, ("img_size", "(C, H, W)")),
        ({"img_size": 16}, ("img_size", "16", "(C, H, W)")),
        ({"img_size": (0, 16, 16)}, ("img_size channels", "0")),
        ({"img_size": (1, 16.7, 16)}, ("img_size", "16.7", "integers")),
        ({"img_size": (1, 8, 16)}, ("img_size", "cake_cutting")),
        ({"ratio": 0}, ("ratio", "]0, 1]")),
        ({"ratio": 1.5}, ("ratio", "1.5")),
        ({"ratio": -0.1}, ("ratio", "-0.1")),
        ({"ratio": float("nan")}, ("ratio", "nan")),
        ({"ratio": "0.2"}, ("ratio", "'0.2'")),
        ({"ordering": "cake_cuting"}, ("ordering", "did you mean cake_cutting", *ORDERINGS)),
        ({"ordering": None}, ("ordering", "None")),
        ({"noise_sigma": -0.1}, ("noise_sigma", "-0.1")),
        ({"noise_sigma": float("inf")}, ("noise_sigma", "inf")),
    ],
)
def test_single_pixel_refuses(change, words):
    arguments = {"img_size": (1, 16, 16), "ratio": 0.2} | change
    refuses(lambda: single_pixel(arguments.pop("img_size"), **arguments), *words)


# --- MRI ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("acceleration", [1, 2, 5, 8])
def test_complex_mri_equals_deepinv(acceleration):
    ours = mri((2, 20, 50), acceleration=acceleration, mask_seed=3)
    draw = deepinv.physics.generator.GaussianMaskGenerator((20, 50), acceleration, rng=rng(3))
    theirs = deepinv.physics.MRI(mask=draw.step()["mask"])
    x, y = images(3, 2, 20, 50), torch.randn((3, 2, 20, 50), generator=rng(0))
    assert torch.equal(ours.mask, theirs.mask)
    assert relative(ours.A(x), theirs.A(x)) < 1e-6
    assert relative(ours.A_adjoint(y), theirs.A_adjoint(y)) < 1e-6
    assert relative(ours.A_dagger(y), theirs.A_dagger(y)) < 1e-6
    assert relative(ours.prox_l2(x, y, 0.7), theirs.prox_l2(x, y, 0.7)) < 1e-6
    assert relative(ours.A_adjoint_A(x), theirs.A_adjoint_A(x)) < 1e-6
    assert relative(ours.A_A_adjoint(y), theirs.A_A_adjoint(y)) < 1e-6


def test_real_mri_drops_the_imaginary_part():
    real, both = (mri((channels, 9, 12), acceleration=3) for channels in (1, 2))
    x, y = images(3, 1, 9, 12), torch.randn((3, 2, 9, 12), generator=rng(0))
    assert relative(real.A(x), both.A(torch.cat([x, torch.zeros_like(x)], dim=1))) < 1e-6
    assert relative(real.A_adjoint(y), both.A_adjoint(y)[:, :1]) < 1e-6


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (6, 9), (5, 4)])
def test_mirror_is_the_conjugate_frequency(size):
    """The spectrum of a real image at the mirrored place is the conjugate."""
    spectrum = mri((1, *size), mask=torch.ones(size)).A(images(1, 1, *size))[0]
    for place in itertools.product(*map(range, size)):
        there = torch.zeros(size)
        there[place] = 1
        other = tuple(mirrored(there).nonzero()[0].tolist())
        assert mirrored(there).sum() == 1 and torch.equal(mirrored(mirrored(there)), there)
        assert torch.allclose(spectrum[0][other], spectrum[0][place], atol=1e-5)
        assert torch.allclose(spectrum[1][other], -spectrum[1][place], atol=1e-5)


@pytest.mark.parametrize("name", [name for name in MRI if name.startswith("real")])
def test_gram_of_real_mri_has_eigenvalues_zero_half_one(name):
    physics = MRI[name]()
    values = torch.linalg.eigvalsh(linalg.dense(physics.A_adjoint_A, physics.img_size))
    assert torch.allclose(values, physics.spectrum.flatten().sort().values, atol=1e-5)
    assert physics.spectrum.unique().tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("name", [name for name in MRI if name.startswith("MRI")])
def test_gram_of_complex_mri_is_a_projector(name):
    physics = MRI[name]()
    gram = linalg.dense(physics.A_adjoint_A, physics.img_size)
    assert torch.allclose(gram @ gram, gram, atol=1e-5)
    assert gram.trace().item() == pytest.approx(physics.mask.sum().item(), abs=1e-3)


def test_norm_of_real_mri_with_one_sided_mask():
    """Without any frequency whose mirror is measured too, half the energy is dropped."""
    mask = torch.zeros(8, 8).index_fill(1, torch.tensor([1, 2]), 1)
    assert mri((1, 8, 8), mask=mask).norm_sq == 0.5 and mri((2, 8, 8), mask=mask).norm_sq == 1.0


def test_masks_are_columns_with_the_generators_counts():
    for acceleration, columns in {1: 50, 2: 25, 3: 16, 4: 12, 5: 10, 6: 8, 8: 6}.items():
        mask = gaussian_mask(30, 50, acceleration, seed=0)
        centre = 2 if acceleration == 8 else 4
        assert mask.shape == (30, 50) and torch.equal(mask, mask[:1].expand(30, -1))
        assert mask[0].sum() == columns and mask[0, 25 - centre // 2 : 25 + centre // 2].all()


@pytest.mark.parametrize("width", [8, 25, 50, 64])
def test_the_accelerations_a_width_allows(width):
    """What is refused is what deepinv warns about or refuses: no column beside the centre."""
    for acceleration in (1, 1.5, 2, 4, 7.9, 8, 12, 16, 20):
        theirs = width // acceleration - int((0.08 if acceleration < 8 else 0.04) * width)
        if theirs < 1:
            refuses(
                lambda a=acceleration: mri((1, 4, width), acceleration=a),
                "acceleration",
                str(acceleration),
                f"width {width}",
            )
        else:
            assert gaussian_mask(4, width, acceleration, 0)[0].sum() == width // acceleration


def test_masks_depend_on_the_seed_alone():
    torch.manual_seed(1)
    first = gaussian_mask(4, 50, 5, 7)
    torch.manual_seed(2)
    assert torch.equal(gaussian_mask(4, 50, 5, 7), first)
    assert len({tuple(gaussian_mask(1, 50, 5, seed)[0].tolist()) for seed in range(10)}) == 10


def test_mask_of_deepinv_without_an_explicit_seed():
    theirs = deepinv.physics.generator.GaussianMaskGenerator((50, 50), 5).step()["mask"]
    assert torch.equal(
        mri((2, 50, 50), acceleration=5, mask_seed=torch.Generator().initial_seed()).mask[:, :1],
        theirs,
    )


@pytest.mark.parametrize(("acceleration", "teacher"), [(5, 1), (5, 3), (5, 5), (4, 2.5), (8, 7.9)])
def test_nested_masks_keep_their_counts(acceleration, teacher):
    for seed in range(20):
        pair = mri_pair(
            (2, 4, 50), acceleration=acceleration, teacher_acceleration=teacher, mask_seed=seed
        )
        student_mask, teacher_mask = (physics.mask[0, 0] for physics in pair)
        own = gaussian_mask(4, 50, teacher, seed)
        assert torch.equal(student_mask, gaussian_mask(4, 50, acceleration, seed)), (
            "the student is that of mri()"
        )
        assert (student_mask <= teacher_mask).all() and teacher_mask[0].sum() == own[0].sum()
        assert torch.equal(teacher_mask, teacher_mask[:1].expand(4, -1))
        if (student_mask <= own).all():
            assert torch.equal(teacher_mask, own)
    if teacher == 1:
        assert teacher_mask.all()


def test_nested_columns_by_hand():
    """Columns 0 and 5 are missing; the two outermost of the teacher's own, 7 then 1 (distances
    3, 3, left first), go.
    """
    student = torch.zeros(2, 8).index_fill(1, torch.tensor([0, 4, 5]), 1)
    teacher = torch.zeros(2, 8).index_fill(1, torch.tensor([1, 3, 4, 7]), 1)
    assert nested_columns(student, teacher)[1].tolist() == [1, 0, 0, 1, 1, 1, 0, 0]
    one = torch.zeros(2, 8).index_fill(1, torch.tensor([0, 4]), 1)
    assert nested_columns(one, teacher)[0].tolist() == [1, 0, 0, 1, 1, 0, 0, 1], (
        "of two as far out, the first goes"
    )


def test_masks_that_are_not_nested():
    student, teacher = mri_pair((2, 8, 50), acceleration=5, teacher_acceleration=3, nested=False)
    again = mri_pair((2, 8, 50), acceleration=5, teacher_acceleration=3, nested=False)[1]
    assert torch.equal(teacher.mask, again.mask) and teacher.mask[0, 0, 0].sum() == 16
    assert (student.mask > teacher.mask).any(), (
        "at this seed a student's column is none of the teacher's"
    )
    assert not torch.equal(teacher.mask, mri((2, 8, 50), acceleration=3).mask)


def test_unshared_columns_are_counted():
    student, teacher = (
        torch.zeros(2, 8).index_fill(1, torch.tensor(seen), 1) for seen in ([0, 4, 5], [1, 4, 7])
    )
    one, two = mri((2, 2, 8), mask=student), mri((1, 2, 8), mask=teacher)
    assert unshared_columns(one, two) == 2 and unshared_columns(one, one) == 0
    assert unshared_columns(*mri_pair((2, 4, 50), acceleration=5, teacher_acceleration=3)) == 0
    refuses(
        lambda: unshared_columns(one, mri((2, 2, 9), acceleration=3)),
        "teacher.mask.shape",
        "(2, 9)",
        "(2, 8)",
    )


def test_a_pair_shares_nothing():
    student, teacher = mri_pair((2, 8, 25), acceleration=5, teacher_acceleration=1, noise_sigma=0.1)
    x = images(2, 2, 8, 25)
    before = teacher.A(x)
    measure(student, x, seed=1)
    refuses(lambda: student.A(x, mask=teacher.mask), "mask", "another")
    assert (
        torch.equal(teacher.A(x), before)
        and student.mask.sum() < teacher.mask.sum() == teacher.mask.numel()
    )
    assert student.noise_sigma == teacher.noise_sigma == 0.1


def test_a_given_mask_is_copied_and_says_its_acceleration():
    mask = DOTS.clone()
    physics = mri((2, 12, 10), mask=mask.bool())
    mask.zero_()
    assert (
        physics.acceleration == 120 / 54
        and physics.mask_seed is None
        and physics.mask.sum() == 2 * 54
    )
    assert mri((2, 12, 10), mask=DOTS, acceleration=2).acceleration == 2
    other = mri((2, 12, 10), mask=DOTS.flip(0), acceleration=2).describe()
    assert other != mri((2, 12, 10), mask=DOTS, acceleration=2).describe()


def test_noise_of_mri_falls_on_measured_entries():
    for channels in (1, 2):
        physics = mri((channels, 16, 25), acceleration=2, noise_sigma=0.1)
        x = images(40, channels, 16, 25)
        noise = measure(physics, x, seed=0) - physics.A(x)
        seen = physics.mask.expand_as(noise) > 0
        assert noise[~seen].abs().max() == 0
        assert noise[seen].std().item() == pytest.approx(0.1, rel=0.03)
        assert torch.equal(
            measure(physics, x[[7]], seed=0, indices=torch.tensor([7])) - physics.A(x[[7]]),
            noise[[7]],
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"img_size": (3, 8, 8)}, ("img_size channels", "3", "complex")),
        ({"img_size": (0, 8, 8)}, ("img_size channels", "0")),
        ({"img_size": (2, 8, 1)}, ("img_size width", "1", ">= 2")),
        ({"img_size": (8, 8)}, ("img_size", "(C, H, W)")),
        ({"img_size": (2, 8, 8.0)}, ("img_size", "integers")),
        ({"acceleration": 0.5}, ("acceleration", "0.5")),
        ({"acceleration": None}, ("acceleration", "None")),
        ({"acceleration": float("nan")}, ("acceleration", "nan")),
        ({"acceleration": 9}, ("acceleration", "9", "[1, 8]", "width 8")),
        ({"mask_seed": -1}, ("mask_seed", "-1")),
        ({"mask_seed": 1.0}, ("mask_seed", "1.0")),
        ({"noise_sigma": -0.1}, ("noise_sigma", "-0.1")),
        ({"mask": torch.ones(8, 9)}, ("mask", "(8, 9)", "(8, 8)")),
        ({"mask": [1, 0]}, ("mask", "list")),
        ({"mask": torch.full((8, 8), 0.5)}, ("mask", "zeros and ones")),
        ({"mask": torch.zeros(8, 8)}, ("mask", "one of them")),
    ],
)
def test_mri_refuses(change, words):
    arguments = {"img_size": (2, 8, 8), "acceleration": 2} | change
    refuses(lambda: mri(arguments.pop("img_size"), **arguments), *words)


def test_a_teacher_measures_at_least_what_the_student_does():
    for wrong in (0.5, 6, "1"):
        made = {"acceleration": 5, "teacher_acceleration": wrong}
        refuses(
            lambda made=made: mri_pair((2, 8, 50), **made),
            "teacher_acceleration",
            repr(wrong),
            "[1, 5]",
        )


# --- super-resolution -----------------------------------------------------------------------------


def deepinv_downsampling(img_size: tuple[int, int, int], factor: int):
    kernel = deepinv.physics.functional.gaussian_blur(sigma=(1, 1))
    return deepinv.physics.Downsampling(
        img_size=img_size, filter=kernel, factor=factor, padding="circular"
    )


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 4, 5), (2, 13, 11), (3, 16, 8), (1, 110, 110)])
def test_super_resolution_equals_deepinv(size, factor):
    ours, theirs = super_resolution(size, factor=factor), deepinv_downsampling(size, factor)
    x = images(2, *size)
    y = theirs.A(x)
    assert y.shape[2:] == tuple(math.ceil(side / factor) for side in size[1:])
    assert relative(ours.A(x), y) < 1e-6
    assert relative(ours.A_adjoint(y), theirs.A_adjoint(y)) < 1e-6


def stationarity(x, z, y, gamma: float, physics) -> float:
    """Size of the gradient of gamma / 2 ||H x - y||^2 + 1/2 ||x - z||^2 at x, relative to that
    at 0.
    """
    at_zero = gamma * physics.A_adjoint(y) + z
    return relative(gamma * physics.A_adjoint(physics.A(x)) + x, at_zero)


@pytest.mark.parametrize(
    ("size", "factor"), [((1, 13, 11), 4), ((2, 12, 8), 2), ((1, 110, 110), 4)]
)
def test_proximity_operator_is_that_of_deepinvs_operator(size, factor):
    """Its conjugate gradients stop short of the solution (their denominators are padded), so
    they are compared loosely.
    """
    ours, theirs = (
        super_resolution(size, factor=factor).double(),
        deepinv_downsampling(size, factor).double(),
    )
    z = images(2, *size, dtype=torch.float64)
    y = images(*theirs.A(z).shape, dtype=torch.float64)
    x = ours.prox_l2(z, y, 30.0)
    assert stationarity(x, z, y, 30.0, theirs) < 1e-6
    assert relative(theirs.prox_l2(z, y, 30.0, use_fft=False, max_iter=50, tol=1e-6), x) < 1e-3
    per_image = ours.prox_l2(z, y, torch.tensor([30.0, 2.0]))
    assert (
        relative(per_image[:1], x[:1]) < 1e-12
        and stationarity(per_image[1:], z[1:], y[1:], 2.0, theirs) < 1e-6
    )


def test_a_constant_image_stays_constant_and_a_point_becomes_the_gaussian():
    physics = super_resolution((1, 20, 20), factor=2)
    assert torch.allclose(
        physics.A(torch.full((1, 1, 20, 20), 0.3)), torch.full((1, 1, 10, 10), 0.3), atol=1e-6
    )
    point = torch.zeros(1, 1, 20, 20)
    point[0, 0, 8, 11] = 1
    profile = torch.exp(-0.5 * torch.arange(-4.0, 5.0) ** 2)
    kernel = torch.outer(profile, profile) / profile.sum() ** 2
    assert physics.A(point)[0, 0, 4, 5].item() == pytest.approx(kernel[4, 3].item(), rel=1e-5)
    assert physics.A(point)[0, 0, 5, 7].item() == pytest.approx(kernel[6, 7].item(), rel=1e-5)
    assert physics.A(point)[0, 0, 1].abs().max() == 0


@pytest.mark.parametrize(("size", "factor"), [(110, 4), (32, 4), (32, 1)])
def test_norms_of_the_papers_operators(size, factor):
    """The largest eigenvalue of H H^T, a small dense matrix by deepinv's operator."""
    theirs = deepinv_downsampling((1, size, size), factor)
    shape = theirs.A(images(1, 1, size, size)).shape[1:]
    largest = torch.linalg.eigvalsh(linalg.dense(theirs.A_A_adjoint, shape).double()).max().item()
    physics = super_resolution((1, size, size), factor=factor)
    assert physics.norm_sq == pytest.approx(largest, rel=1e-6)
    if factor == 1:
        assert physics.norm_sq == pytest.approx(1.0, abs=1e-12), "a blur keeps constants"


def test_decimated_blurs_are_well_conditioned_and_the_blur_alone_is_not():
    """Condition number of H on its range: the dense singular values."""
    for name, factor, low, high in (("s", 4, 1, 3), ("s", 2, 3, 10), ("s", 1, 1000, 10000)):
        physics = super_resolution((1, 20, 20), factor=factor)
        values = torch.linalg.svdvals(linalg.dense(physics.A, (1, 20, 20)).double())
        assert low < (values.max() / values.min()).item() < high, (name, factor)
        assert torch.allclose(
            values, physics.values.flatten().sort(descending=True).values.double(), atol=1e-6
        )


def test_blur_and_factor_are_fixed():
    physics = super_resolution((1, 16, 16), factor=2)
    x = images(1, 1, 16, 16)
    refuses(lambda: physics.A(x, factor=3), "factor")
    refuses(lambda: physics.A(x, filter=torch.ones(1, 1, 3, 3)), "filter")
    refuses(lambda: physics.update(factor=4), "factor")


def test_noise_of_super_resolution():
    physics = super_resolution((1, 32, 32), factor=2, noise_sigma=0.1)
    x = images(16, 1, 32, 32)
    noise = measure(physics, x, seed=0) - physics.A(x)
    assert noise.shape == (16, 1, 16, 16) and noise.std().item() == pytest.approx(0.1, rel=0.05)
    assert torch.equal(physics(x, seed=1), physics(x, seed=1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"img_size": (1, 3, 16)}, ("img_size height", "3", ">= 4")),
        ({"img_size": (16, 16)}, ("img_size", "(C, H, W)")),
        ({"img_size": (0, 16, 16)}, ("img_size channels", "0")),
        ({"factor": 0}, ("factor", "0")),
        ({"factor": 2.0}, ("factor", "2.0", "integer")),
        ({"factor": 13}, ("factor", "13", "[1, 12]")),
        ({"noise_sigma": -0.1}, ("noise_sigma", "-0.1")),
    ],
)
def test_super_resolution_refuses(change, words):
    arguments = {"img_size": (1, 16, 12), "factor": 2} | change
    refuses(lambda: super_resolution(arguments.pop("img_size"), **arguments), *words)


# --- bases ----------------------------------------------------------------------------------------


def test_pixel_basis_is_the_identity():
    basis = PixelBasis((2, 4, 8))
    x = images(3, 2, 4, 8)
    assert (
        basis.dim == 64
        and torch.equal(basis.coordinates(x), x.flatten(1))
        and torch.equal(basis.project(x), x)
    )


def range_projector(matrix: torch.Tensor) -> torch.Tensor:
    """The orthogonal projector on the row space of a float64 matrix, by numpy's singular
    vectors.
    """
    _, values, rows = np.linalg.svd(matrix.numpy(), full_matrices=False)
    kept = rows[values > 1e-6 * values.max()]
    return torch.from_numpy(kept.T @ kept)


def projector(basis: Basis, dtype: torch.dtype) -> torch.Tensor:
    rows = basis.image(torch.eye(basis.dim, dtype=dtype)).flatten(1)
    assert rows.dtype == dtype
    return rows.T @ rows


@pytest.mark.parametrize("name", OPERATORS)
def test_bases_are_exact_in_float64_and_rounded_in_float32(name):
    """The projector is a projector, and the one on the range, to the last digits of the dtype
    the operator computes in.
    """
    single = OPERATORS[name]()
    double, size = (
        copy.deepcopy(single).double(),
        size_of(single) if name != "deepinv's MRI" else (2, 12, 10),
    )
    truth = range_projector(linalg.dense(double.A, size, dtype=torch.float64))
    for physics, dtype, digits in ((single, torch.float32, 1e-6), (double, torch.float64, 1e-13)):
        found = projector(range_basis(physics, size), dtype)
        assert relative(found @ found, found) < digits
        assert relative(found.double(), truth) < digits


@pytest.mark.parametrize("name", OURS)
def test_operators_in_float64_are_not_those_rounded_to_float32(name):
    """Projectors are projectors, and the pseudo-inverse inverts on the range, to the last
    digits of float64.
    """
    physics = OURS[name]().double()
    x = images(2, *size_of(physics), dtype=torch.float64)
    y = physics.A(x)
    assert relative(physics.A(physics.A_dagger(y)), y) < 1e-11
    if name not in SUPER_RESOLUTION and "real" not in name:
        assert relative(physics.A_adjoint_A(physics.A_adjoint(y)), physics.A_adjoint(y)) < 1e-14


def test_bases_of_badly_conditioned_operators_are_found_in_float64():
    """Tomography of few angles: in float32 the smallest kept singular vectors are 1e-5 off."""
    physics = deepinv.physics.Tomography(angles=10, img_width=12, normalize=False)
    truth = range_projector(
        linalg.dense(copy.deepcopy(physics).double().A, (1, 12, 12), dtype=torch.float64)
    )
    assert (
        relative(projector(range_basis(physics, (1, 12, 12)), torch.float32).double(), truth) < 1e-6
    )


def test_an_operator_that_cannot_leave_its_dtype_is_taken_in_it():
    matrix = torch.randn(5, 16, generator=rng(0))
    found = projector(range_basis(matrix_physics(matrix, (1, 4, 4)), (1, 4, 4)), torch.float32)
    assert relative(found.double(), range_projector(matrix.double())) < 1e-6


def test_range_basis_refuses_what_it_cannot_know():
    nameless = deepinv.physics.LinearPhysics(A=lambda x, **_: x, A_adjoint=lambda y, **_: y)
    refuses(lambda: range_basis(nameless), "img_size", "(C, H, W)")
    assert range_basis(nameless, (1, 2, 3)).dim == 6
    refuses(lambda: range_basis(inpainting(8), max_pixels=63), "img_size", "63")
    assert range_basis(single_pixel((1, 8, 8), ratio=0.5), max_pixels=1).dim == 32


@pytest.mark.parametrize("name", OURS)
def test_a_basis_is_its_callers_own(name):
    physics = OURS[name]()
    x = images(2, *size_of(physics))
    y, solved = physics.A(x), physics.prox_l2(x, physics.A(x), 1.0)
    for basis in (physics.range_basis().double(), physics.plane_basis().double()):
        for buffer in basis.buffers():
            buffer.zero_()
    assert torch.equal(physics.A(x), y) and torch.equal(physics.prox_l2(x, y, 1.0), solved)
    assert physics.range_basis().coordinates(x).norm() > 0


@pytest.mark.parametrize("name", OPERATORS)
def test_a_basis_has_the_operators_dtype(name):
    physics = OPERATORS[name]().double()
    x = images(2, *size_of(physics), dtype=torch.float64)
    gradient = physics.A_adjoint(physics.A(x))
    assert relative(range_basis(physics).project(gradient), gradient) < 1e-5
    planes = gradient.reshape(-1, 1, *size_of(physics)[1:])
    assert relative(plane_basis(physics).project(planes), planes) < 1e-5


def test_rebuild_refuses_an_unknown_kind():
    kinds = "pixel", "matrix", "hadamard", "fourier", "hartley", "kronecker"
    refuses(lambda: rebuild_basis("wavelet", (1, 4, 4), {}), "basis", "'wavelet'", *kinds)


def test_the_interface_says_what_is_missing():
    bare = TransformBasis((1, 2, 2), torch.tensor([0]))
    for call in (Basis().coordinates, Basis().image, bare.transform):
        with pytest.raises(TypeError, match="Basis does not define"):
            call(torch.zeros(1))


@pytest.mark.parametrize("size", [(4, 6), (5, 3), (7, 8)])
def test_fourier_and_hartley_functions_by_their_definition(size):
    """In centred order: sum over (x, y) of exp(-i theta) / sqrt(n), theta = 2 pi (u x / H + v y
    / W).
    """
    place = [torch.arange(side) - side // 2 for side in size]
    angles = [
        2 * math.pi * torch.outer(axis, axis).double() / side
        for axis, side in zip(place, size, strict=True)
    ]
    theta = (angles[0][:, None, :, None] + angles[1][None, :, None, :]).reshape(math.prod(size), -1)
    every = torch.arange(2 * math.prod(size))
    real, imaginary = images(2, 1, *size, dtype=torch.float64)
    spectrum = (
        torch.exp(-1j * theta) @ torch.complex(real, imaginary).flatten() / math.prod(size) ** 0.5
    )
    fourier = FourierBasis((2, *size), every)
    x = torch.stack([real, imaginary], dim=1)
    assert relative(fourier.coordinates(x)[0], torch.cat([spectrum.real, spectrum.imag])) < 1e-12
    assert relative(fourier.project(x), x) < 1e-12
    hartley = HartleyBasis((1, *size), every[: math.prod(size)])
    expected = (theta.cos() + theta.sin()) @ real.flatten() / math.prod(size) ** 0.5
    assert relative(hartley.coordinates(real[None])[0], expected) < 1e-12
    assert relative(hartley.transform(hartley.transform(real[None])), real[None]) < 1e-12


def test_kronecker_basis_by_hand():
    """One row function (0.6, 0.8), the first two of three column functions: pixels of the first
    two columns.
    """
    basis = KroneckerBasis(
        (1, 2, 3), torch.tensor([0, 1]), torch.tensor([[0.6, 0.8]]), torch.eye(3)
    )
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])[None, None]
    assert torch.allclose(basis.coordinates(x), torch.tensor([[3.8, 5.2]]))
    assert torch.allclose(
        basis.project(x)[0, 0], torch.tensor([[2.28, 3.12, 0.0], [3.04, 4.16, 0.0]])
    )


def test_plane_basis_of_an_operator_that_has_none():
    mask = (torch.arange(128) % 3 > 0).float().reshape(2, 8, 8)
    physics = deepinv.physics.Inpainting((2, 8, 8), mask=mask)
    assert plane_basis(physics).dim == 64 and range_basis(physics).dim == 85
    refuses(lambda: plane_basis(physics, max_pixels=127), "img_size", "127", "plane_basis")
    nameless = deepinv.physics.LinearPhysics(A=lambda x, **_: x, A_adjoint=lambda y, **_: y)
    refuses(lambda: plane_basis(nameless), "img_size", "(C, H, W)")
    assert plane_basis(nameless, (2, 2, 3)).dim == 6


def test_matrix_basis_by_hand():
    basis = MatrixBasis((1, 1, 2), torch.tensor([[0.6, 0.8]]))
    x = torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 2)
    assert basis.coordinates(x).item() == pytest.approx(2.2)
    assert basis.project(x).flatten().tolist() == pytest.approx([1.32, 1.76])


# --- measurements ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cake_cutting", *FOREIGN])
def test_noiseless_measurements_are_the_operator(name):
    physics = OPERATORS[name]()
    x = images(2, *size_of(physics))
    assert torch.equal(measure(physics, x, seed=3), physics.A(x))


def test_noise_falls_on_measured_coefficients_with_its_standard_deviation():
    physics = single_pixel((1, 16, 16), ratio=0.5, noise_sigma=0.1)
    x = images(64, 1, 16, 16)
    noise = measure(physics, x, seed=0) - physics.A(x)
    seen = physics.mask.expand_as(noise) > 0
    assert noise[~seen].abs().max() == 0
    assert noise[seen].std().item() == pytest.approx(0.1, rel=0.03)
    assert abs(noise[seen].mean().item()) < 4 * 0.1 / seen.sum().item() ** 0.5
    per_coefficient = noise[:, physics.mask[0] > 0].std(dim=0)
    assert per_coefficient.min() > 0.05 and per_coefficient.max() < 0.16, (
        "no coefficient is left out or favoured"
    )


def test_noise_depends_on_seed_stream_and_image_index_alone():
    physics = single_pixel((1, 8, 8), ratio=0.5, noise_sigma=0.1)
    x = images(6, 1, 8, 8)
    y = measure(physics, x, seed=5)
    torch.manual_seed(99)
    order = torch.tensor([4, 1, 1, 5])
    assert torch.equal(measure(physics, x[order], seed=5, indices=order), y[order])
    noise = y - physics.A(x)
    assert relative(noise[0], noise[1]) > 0.5
    for other in (measure(physics, x, seed=6), measure(physics, x, seed=5, stream="teacher noise")):
        assert relative(other - physics.A(x), noise) > 0.5


def test_calling_the_operator_with_a_seed_is_reproducible():
    physics = single_pixel((1, 8, 8), ratio=0.5, noise_sigma=0.1)
    x = images(2, 1, 8, 8)
    assert torch.equal(physics(x, seed=1), physics(x, seed=1))
    assert not torch.equal(physics(x, seed=1), physics(x, seed=2))


def test_noise_of_a_deepinv_operator_with_a_generator_is_reproducible():
    noise = deepinv.physics.GaussianNoise(0.1, rng=torch.Generator())
    physics = deepinv.physics.Inpainting((1, 8, 8), mask=torch.ones(1, 8, 8), noise_model=noise)
    x = images(3, 1, 8, 8)
    y = measure(physics, x, seed=1)
    assert torch.equal(measure(physics, x[[2]], seed=1, indices=torch.tensor([2])), y[[2]])
    assert (y - x).std().item() == pytest.approx(0.1, rel=0.2)


@pytest.mark.parametrize(
    "noise", [deepinv.physics.GaussianNoise(0.1), deepinv.physics.PoissonNoise(0.05)]
)
def test_noise_of_a_deepinv_operator_without_a_generator_is_reproducible(noise):
    physics = deepinv.physics.Inpainting((1, 8, 8), mask=torch.ones(1, 8, 8), noise_model=noise)
    x = images(3, 1, 8, 8)
    y = measure(physics, x, seed=1)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    assert torch.equal(measure(physics, x, seed=1), y)
    assert torch.equal(measure(physics, x[[2]], seed=1, indices=torch.tensor([2])), y[[2]])
    assert not torch.equal(measure(physics, x, seed=2), y)
    assert torch.equal(torch.get_rng_state(), state) and physics.noise_model.rng is None


def test_operators_hold_no_shared_state():
    """Measuring with one leaves another of the same kind as it was."""
    a, b = (single_pixel((1, 8, 8), ratio=ratio, noise_sigma=0.1) for ratio in (0.2, 0.7))
    x = torch.randn((2, 1, 8, 8), generator=rng(0))
    before = b.A(x)
    measure(a, x, seed=1)
    assert torch.equal(b.A(x), before) and a.mask.sum() == 13 and b.mask.sum() == 45
