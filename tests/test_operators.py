import itertools

import deepinv
import pytest
import torch
from batteries import (
    FOREIGN,
    OPERATORS,
    SINGLE_PIXEL,
    check_adjoint,
    check_linear,
    images,
    inpainting,
    refuses,
    relative,
    rng,
    size_of,
)

from dipa import linalg
from dipa.operators import (
    ORDERINGS,
    MatrixBasis,
    PixelBasis,
    hadamard_mask,
    range_basis,
    rebuild_basis,
    single_pixel,
)
from dipa.operators.bases import Basis, hadamard_matrix
from dipa.operators.measure import measure
from dipa.operators.orderings import DEEPINV_ORDERINGS
from dipa.solvers import lipschitz

# --- every operator --------------------------------------------------------------------------------------------------


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
    assert linalg.squared_norm(physics.A_adjoint_A, size_of(physics)) == pytest.approx(largest, rel=1e-4)


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
    assert relative(projector, torch.linalg.pinv(matrix.double(), rtol=1e-6).float() @ matrix) < 1e-3


@pytest.mark.parametrize("name", OPERATORS)
def test_stored_basis_is_rebuilt(name):
    physics = OPERATORS[name]()
    basis = range_basis(physics, size_of(physics))
    again = rebuild_basis(basis.kind, basis.img_size, basis.state_dict())
    x = images(2, *basis.img_size)
    assert type(again) is type(basis) and again.dim == basis.dim
    assert torch.equal(again.coordinates(x), basis.coordinates(x))
    assert torch.equal(again.project(x), basis.project(x))


# --- single pixel ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SINGLE_PIXEL)
def test_gram_is_a_projector_of_rank_m_per_channel(name):
    physics = SINGLE_PIXEL[name]()
    channels, height, width = physics.img_size
    gram = linalg.dense(physics.A_adjoint_A, size_of(physics))
    m = max(1, round(physics.ratio * height * width))
    assert torch.allclose(gram @ gram, gram, atol=1e-5) and torch.allclose(gram, gram.T, atol=1e-6)
    assert gram.trace().item() == pytest.approx(channels * m, abs=1e-3)
    assert torch.allclose(linalg.dense(physics.range_basis().project, size_of(physics)), gram, atol=1e-6)


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
    sylvester = torch.tensor([[1.0]])
    for _ in range(3):
        sylvester = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), sylvester)
    assert torch.allclose(matrix, sylvester / 8**0.5, atol=1e-6)
    x = images(1, 1, 8, 8)
    assert relative(single_pixel((1, 8, 8), ratio=1.0).A(x), sylvester @ x @ sylvester / 8) < 1e-6


@pytest.mark.parametrize("ordering", ORDERINGS)
@pytest.mark.parametrize("size", [(8, 8), (4, 16), (16, 2)])
def test_masks_have_m_ones_and_are_nested(ordering, size):
    if ordering == "cake_cutting" and size[0] != size[1]:
        refuses(lambda: single_pixel((1, *size), ratio=0.5, ordering=ordering), "img_size", "H = W", "cake_cutting")
        return
    height, width = size
    masks = [hadamard_mask(height, width, m, ordering) for m in range(1, height * width + 1)]
    for m, mask in enumerate(masks, start=1):
        assert mask.shape == size and mask.sum().item() == m and set(mask.unique().tolist()) <= {0.0, 1.0}
    assert masks[0][0, 0] == 1, "the mean comes first"
    assert all((small <= large).all() for small, large in itertools.pairwise(masks))


def test_orderings_differ():
    """Each is another order of the 64 coefficients of an 8 x 8 image."""
    orders = {tuple(sum(hadamard_mask(8, 8, m, name) for m in range(1, 65)).flatten().tolist()) for name in ORDERINGS}
    assert len(orders) == len(ORDERINGS)


# Natural rows 0, 1, 2, 3 of the 4 x 4 Hadamard matrix change sign 0, 3, 1, 2 times; so sequency order is 0, 2, 3, 1.
BY_HAND = {
    # Gray codes 0000 0001 0011 0010 0110 with their bits reversed: 0, 8, 12, 4, 6, down the columns of the image
    ("sequency", 5): [(0, 0), (0, 2), (0, 3), (0, 1), (2, 1)],
    # Gray-decoded 0 1 2 3 4 = 0 1 3 2 7 with their bits reversed: 0, 8, 12, 4, 14, down the columns of the image
    ("sequency_permutation", 5): [(0, 0), (0, 2), (0, 3), (0, 1), (2, 3)],
    # the grid in that order (at 4 the same as sequency order) along both axes, row by row: four entries, then two
    ("sequency_rows", 6): [(0, 0), (0, 1), (0, 2), (0, 3), (2, 0), (2, 2)],
    # the triangle u + v <= 2 of the grid in sequency order
    ("zig_zag", 6): [(0, 0), (0, 2), (2, 0), (0, 3), (3, 0), (2, 2)],
    # u v + (u^2 + v^2) / 4 = 0, 1/4, 1/4, 1, 1, 3/2 for the same triangle, at least 13/4 elsewhere but (0, 3), (3, 0)
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


def test_sequency_rows_permutes_as_the_old_releases_did():
    """Gray-decoded 0..7 = 0 1 3 2 7 6 4 5 with bits reversed: 0 4 6 2 7 3 1 5. Four whole rows, then five of row 7."""
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


def test_description_rebuilds_the_operator():
    physics = single_pixel((2, 8, 8), ratio=0.4, ordering="xy", noise_sigma=0.1)
    made = physics.describe()
    assert made.pop("kind") == "single_pixel"
    assert torch.equal(single_pixel(tuple(made.pop("img_size")), **made).mask, physics.mask)


# --- bases -----------------------------------------------------------------------------------------------------------


def test_pixel_basis_is_the_identity():
    basis = PixelBasis((2, 4, 8))
    x = images(3, 2, 4, 8)
    assert basis.dim == 64 and torch.equal(basis.coordinates(x), x.flatten(1)) and torch.equal(basis.project(x), x)


def test_range_basis_refuses_what_it_cannot_know():
    nameless = deepinv.physics.LinearPhysics(A=lambda x, **_: x, A_adjoint=lambda y, **_: y)
    refuses(lambda: range_basis(nameless), "img_size", "(C, H, W)")
    assert range_basis(nameless, (1, 2, 3)).dim == 6
    refuses(lambda: range_basis(inpainting(8), max_pixels=63), "img_size", "63")
    assert range_basis(single_pixel((1, 8, 8), ratio=0.5), max_pixels=1).dim == 32


def test_a_basis_is_its_callers_own():
    physics = single_pixel((1, 8, 8), ratio=0.5)
    x = images(2, 1, 8, 8)
    y = physics.A(x)
    physics.range_basis().double()
    assert torch.equal(physics.A(x), y)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_basis_has_the_operators_dtype(name):
    physics = OPERATORS[name]().double()
    x = images(2, *size_of(physics), dtype=torch.float64)
    gradient = physics.A_adjoint(physics.A(x))
    assert relative(range_basis(physics).project(gradient), gradient) < 1e-5


def test_rebuild_refuses_an_unknown_kind():
    refuses(lambda: rebuild_basis("fourier", (1, 4, 4), {}), "basis", "'fourier'", "pixel", "hadamard", "matrix")


def test_the_interface_says_what_is_missing():
    for call in (Basis().coordinates, Basis().image):
        with pytest.raises(TypeError, match="Basis does not define"):
            call(torch.zeros(1))


def test_matrix_basis_by_hand():
    basis = MatrixBasis((1, 1, 2), torch.tensor([[0.6, 0.8]]))
    x = torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 2)
    assert basis.coordinates(x).item() == pytest.approx(2.2)
    assert basis.project(x).flatten().tolist() == pytest.approx([1.32, 1.76])


# --- measurements ----------------------------------------------------------------------------------------------------


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
    assert per_coefficient.min() > 0.05 and per_coefficient.max() < 0.16, "no coefficient is left out or favoured"


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


@pytest.mark.parametrize("noise", [deepinv.physics.GaussianNoise(0.1), deepinv.physics.PoissonNoise(0.05)])
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
