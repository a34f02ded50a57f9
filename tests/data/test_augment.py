"""What is drawn by its distribution, what is done to pixels against slow references, and policies as a whole."""

import colorsys
import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
from reference import augment_reference as reference

from bitkeras.data import augment_draws as drawing
from bitkeras.data import augment_pixels as pixels
from bitkeras.data.augment import RECIPES, VIEW_POLICIES, Recipe, make_policy, random_crops
from bitkeras.data.augment_draws import Draws, draw_parameters, draw_uniforms, draw_windows
from bitkeras.data.pictures import EncodedPictures
from bitkeras.data.preprocess import resize
from bitkeras.errors import UserError

NOTHING = {"jitter_probability": 0.0, "grey_probability": 0.0, "blur_probability": 0.0}
STILL = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
JITTER = ("brightness", "contrast", "saturation", "hue")
STEP_NAMES = {drawing.BRIGHTNESS: "brightness", drawing.CONTRAST: "contrast", drawing.SATURATION: "saturation"}
STEP_NAMES.update({drawing.HUE: "hue", drawing.GREY: "grey"})


def random_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pictures(images):
    """Arrays, uint8 [H, W, 3] each, as a group of images to make views of."""
    return EncodedPictures([tf.io.encode_png(image) for image in images])


def seeds_of(number, seed=7, epoch=0):
    return np.stack([np.full(number, seed), np.full(number, epoch), np.arange(number)], axis=1).astype(np.int64)


def views_of(images, monkeypatch, image_size=16, **fields):
    """Two views of each image by a recipe of its own, [2, N, S, S, 3] in [-1, 1]."""
    monkeypatch.setitem(RECIPES, "own", Recipe(**fields))
    make_views = make_policy("own", image_size=image_size).make_views
    return make_views(pictures(images), seeds_of(len(images)), num_views=2).numpy()


def within_binomial(hits, probability):
    """Within four standard deviations."""
    return abs(np.mean(hits) - probability) <= 4 * math.sqrt(probability * (1 - probability) / len(hits))


def assert_uniform(values, low, high):
    assert values.min() >= low - 1e-5 and values.max() <= high + 1e-5
    uniform = np.linspace(low, high, 20000)
    distance = reference.kolmogorov_distance(values, uniform)
    assert distance < reference.kolmogorov_limit(len(values), 20000)


# What is drawn.

NUMBER = 3000


@pytest.fixture(scope="module")
def uniforms():
    """[NUMBER, U], of one view of each of NUMBER images."""
    return draw_uniforms(tf.constant(seeds_of(NUMBER)), num_views=1).numpy()[0]


@pytest.mark.parametrize("row", [(1, 0, 0), (-3, 5, 12345), (2**40 + 1, 2**31 - 1, 2**33)])
def test_uniforms_are_philox_with_the_seed_as_key_and_epoch_and_image_as_counter(row):
    found = draw_uniforms(tf.constant([row, (1, 2, 3)], tf.int64), num_views=2).numpy()
    seed, epoch, image = row
    expected = reference.philox_uniforms(seed % 2**64, (image << 64) + (epoch << 32), found[:, 0].size)
    np.testing.assert_array_equal(found[:, 0].ravel(), expected.astype(np.float32))


def test_uniforms_are_uniform_and_independent(uniforms):
    assert uniforms.min() >= 0 and uniforms.max() < 1
    assert abs(uniforms.mean() - 0.5) < 4 * math.sqrt(1 / 12 / uniforms.size)
    # Five: there are many pairs.
    limit = 5 / math.sqrt(NUMBER)
    assert np.abs(np.corrcoef(uniforms.T) - np.eye(uniforms.shape[1])).max() < limit
    # Of images that follow each other, of the views of a pair, of epochs and of seeds, too.
    assert abs(np.corrcoef(uniforms[1:].ravel(), uniforms[:-1].ravel())[0, 1]) < 5 / math.sqrt(uniforms.size)
    pairs = draw_uniforms(tf.constant(seeds_of(200)), num_views=2).numpy()
    np.testing.assert_array_equal(pairs[0], uniforms[:200])
    others = [
        draw_uniforms(tf.constant(rows), num_views=1).numpy()[0] for rows in (seeds_of(200, epoch=1), seeds_of(200, 8))
    ]
    for one, other in itertools.combinations([pairs[0], pairs[1], *others], 2):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / math.sqrt(one.size)


@pytest.mark.parametrize(("height", "width"), [(48, 48), (36, 48), (24, 60), (450, 600)])
def test_windows_are_distributed_as_torchvisions(uniforms, height, width):
    area = (0.2, 1.0)
    tops, lefts, heights, widths = draw_windows(tf.constant(uniforms), height, width, area=area).numpy().astype(float).T
    rng = np.random.default_rng(0)
    expected = np.array([reference.crop_window(height, width, area, rng) for _ in range(12000)], float).T
    limit = reference.kolmogorov_limit(NUMBER, 12000)
    for found, wanted in (
        (heights * widths, expected[2] * expected[3]),
        (widths / heights, expected[3] / expected[2]),
        (tops, expected[0]),
        (lefts, expected[1]),
    ):
        assert reference.kolmogorov_distance(found, wanted) < limit
        for share in (0.1, 0.5, 0.9):
            spread = 4 * math.sqrt(share * (1 - share) / NUMBER)
            low, high = np.quantile(wanted, [max(share - spread, 0), min(share + spread, 1)])
            assert low <= np.quantile(found, share) <= high
        assert abs(found.mean() - wanted.mean()) < 5 * wanted.std() / math.sqrt(NUMBER) + 1e-9
    correlation = np.corrcoef(heights * widths, widths / heights)[0, 1]
    assert abs(correlation - np.corrcoef(expected[2] * expected[3], expected[3] / expected[2])[0, 1]) < 0.1


def test_windows_stay_inside_the_image_and_reach_its_borders(uniforms):
    tops, lefts, heights, widths = draw_windows(tf.constant(uniforms), 40, 60, area=(0.35, 1.0)).numpy().T
    assert tops.min() == 0 and lefts.min() == 0
    assert (tops + heights).max() == 40 and (lefts + widths).max() == 60
    areas = heights * widths / (40 * 60)
    # Whole sides: half a pixel on each.
    assert areas.min() > 0.35 - 0.03 and areas.max() <= 1
    assert (widths / heights).min() > 3 / 4 - 0.06 and (widths / heights).max() < 4 / 3 + 0.06


def test_every_image_has_windows_of_its_own_size(uniforms):
    sizes = np.random.default_rng(0).integers(1, 300, (NUMBER, 2))
    windows = draw_windows(tf.constant(uniforms), sizes[:, 0], sizes[:, 1], area=(0.2, 1.0)).numpy()
    assert (windows[:, :2] >= 0).all() and (windows[:, 2:] >= 1).all()
    assert (windows[:, :2] + windows[:, 2:] <= sizes).all()
    for n in range(0, NUMBER, 100):
        alone = draw_windows(tf.constant(uniforms[n]), *sizes[n], area=(0.2, 1.0))
        np.testing.assert_array_equal(alone, windows[n])


@pytest.mark.parametrize(
    ("height", "width", "window"),
    [(20, 200, (20, 27)), (200, 20, (27, 20)), (40, 40, (40, 40)), (1, 1, (1, 1)), (2, 900, (2, 3))],
)
def test_where_no_window_fits_the_largest_centred_one_is_taken(uniforms, height, width, window):
    windows = draw_windows(tf.constant(uniforms[:200]), height, width, area=(0.9999, 1.0)).numpy()
    np.testing.assert_array_equal(windows[:, 2:], np.broadcast_to(window, (200, 2)))
    centres = windows[:, :2] + windows[:, 2:] / 2
    assert np.abs(centres - np.array([height, width]) / 2).max() <= 0.5


def parameters(uniforms, image_size=64, **fields):
    draws = draw_parameters(tf.constant(uniforms), Recipe(**fields), image_size=image_size)
    return Draws(*(values.numpy() for values in draws))


def transposed(draws):
    return (draws.steps == drawing.TRANSPOSE).any(axis=1)


def strengths_by_name(draws):
    """The strengths of the views that are jittered: {name: [n]}."""
    jittered = draws.steps[:, 0] != drawing.NOTHING
    order, strengths = draws.steps[jittered, :4], draws.strengths[jittered, :4]
    return {STEP_NAMES[step]: strengths[order == step] for step in range(drawing.BRIGHTNESS, drawing.GREY)}


@pytest.mark.parametrize("name", RECIPES)
def test_coins_and_strengths_are_the_recipes(uniforms, name):
    recipe = RECIPES[name]
    draws = Draws(*(values.numpy() for values in draw_parameters(tf.constant(uniforms), recipe, image_size=64)))
    jittered = draws.steps[:, 0] != drawing.NOTHING
    happened = {
        "jitter": (jittered, recipe.jitter_probability),
        "grey": (draws.steps[:, 4] == drawing.GREY, recipe.grey_probability),
        "blur": (draws.blurred, recipe.blur_probability),
        "left to right": (draws.mirrored, 0.5),
        "top to bottom": (draws.upside_down, 0.5 if recipe.vertical_flip else 0.0),
        "rows for columns": (transposed(draws), 0.5 if recipe.quarter_turns else 0.0),
    }
    for operation, (hits, probability) in happened.items():
        assert within_binomial(hits, probability), f"{operation} in {np.mean(hits):.3f} of the views"
    assert (draws.steps[~jittered, :4] == drawing.NOTHING).all()
    for operation, strengths in strengths_by_name(draws).items():
        middle, extent = float(operation != "hue"), getattr(recipe, operation)
        assert_uniform(strengths, middle - extent, middle + extent)
    assert_uniform(draws.sigma, 0.1 * 64 / 224, 2.0 * 64 / 224)


def test_coins_strengths_and_order_are_independent(uniforms):
    draws = parameters(uniforms, vertical_flip=True, quarter_turns=True)
    jittered = draws.steps[:, 0] != drawing.NOTHING
    all_of_them = [draws.steps[:, 4] == drawing.GREY, draws.blurred, draws.mirrored, draws.upside_down, draws.sigma]
    all_of_them.append(transposed(draws))
    of_jittered = np.array([*(values[jittered] for values in all_of_them), *strengths_by_name(draws).values()], float)
    of_jittered = np.concatenate([of_jittered, [(draws.steps[jittered] == drawing.HUE).argmax(axis=1)]])
    for rows in (of_jittered, np.array([jittered, *all_of_them], float)):
        assert np.abs(np.corrcoef(rows) - np.eye(len(rows))).max() < 4.5 / math.sqrt(rows.shape[1])


def test_every_order_is_as_likely(uniforms):
    orders = parameters(uniforms, jitter_probability=1.0).steps[:, :4]
    found, counts = np.unique(orders, axis=0, return_counts=True)
    assert {tuple(order) for order in found} == set(itertools.permutations(range(drawing.BRIGHTNESS, drawing.GREY)))
    # Chi-square with 23 degrees of freedom exceeds 49.7 once in a thousand times.
    assert ((counts - NUMBER / 24) ** 2 / (NUMBER / 24)).sum() < 49.7


def test_the_coin_does_not_decide_the_strength(uniforms):
    """Were coin and strength one draw, jitter with probability 1/2 would only ever darken."""
    draws = parameters(uniforms, jitter_probability=0.5, grey_probability=0.0)
    assert_uniform(strengths_by_name(draws)["brightness"], 0.6, 1.4)
    draws = parameters(uniforms, blur_probability=0.5)
    assert_uniform(draws.sigma[draws.blurred], 0.1 * 64 / 224, 2.0 * 64 / 224)


def test_probability_zero_is_never_and_one_is_always(uniforms):
    never, always = parameters(uniforms, **NOTHING), parameters(uniforms, **dict.fromkeys(NOTHING, 1.0))
    assert (never.steps == drawing.NOTHING).all() and not never.blurred.any()
    assert (always.steps != drawing.NOTHING).all() and always.blurred.all()


# What is done to pixels.


def planes(image):
    """[y, x, channel] -> [channel, x, y]."""
    return tf.constant(np.transpose(image, (2, 1, 0)))


def from_planes(values):
    return np.transpose(values, (2, 1, 0))


@pytest.mark.parametrize("image_size", [16, 40])
def test_crops_are_pillows(image_size):
    rng = np.random.default_rng(1)
    sizes = [(40, 60), (60, 40), (33, 33), (9, 12), (1, 1), (150, 200)]
    images = [random_image(*size, seed) for seed, size in enumerate(sizes)]
    windows = np.array([[reference.crop_window(*size, (0.1, 1.0), rng) for size in sizes] for _ in range(2)], np.int32)
    crops = pixels.crop_and_resize(
        [tf.constant(image) for image in images], tf.constant(windows, tf.float32), image_size=image_size
    ).numpy()
    assert crops.shape == (2, len(sizes), image_size, 3, image_size)
    for view, n in np.ndindex(2, len(sizes)):
        expected = reference.crop(images[n], windows[view, n], image_size)
        np.testing.assert_allclose(np.transpose(crops[view, n], (2, 0, 1)), expected, atol=2e-3)


@pytest.mark.parametrize("image_size", [16, 40, 64])
def test_the_full_window_is_resized_as_everywhere_else(image_size):
    image = random_image(40, 40)
    # Whole or nearly so: its aspect ratio is drawn, and a window other than the square does not fit.
    crops = single_crops(image, 4, area=(1.0, 1.0), image_size=image_size)
    whole = resize(tf.constant(image), image_size).numpy()
    for crop in crops:
        assert min(np.abs(crop - whole).max(), np.abs(crop - whole[:, ::-1]).max()) < 1e-3


def single_crops(image, number, **kwargs):
    """`number` crops of one image, [number, S, S, 3] in the range of the image."""
    seeds = tf.stack([tf.fill([number], 7), tf.zeros([number], tf.int32), tf.range(number)], axis=1)
    batches = tf.data.Dataset.from_tensor_slices(tf.cast(seeds, tf.int64)).batch(4, drop_remainder=True)
    crops = batches.map(lambda seeds: random_crops(pictures([image] * 4), seeds, **kwargs)).unbatch().batch(number)
    return (next(iter(crops)).numpy() + 1) * 127.5


def windows_from_ramps(views, height, width):
    """(tops, lefts, heights, widths) of the windows, from views of an image whose pixels are (x, y, 0).

    Enlarging keeps a ramp's slope away from the border and its mean everywhere.
    """
    size = views.shape[1]
    a, b = size // 4, size - size // 4 - 1
    middle = size // 2
    widths = (views[:, middle, b, 0] - views[:, middle, a, 0]) / (b - a) * size
    heights = (views[:, b, middle, 1] - views[:, a, middle, 1]) / (b - a) * size
    lefts = views[..., 0].mean(axis=(1, 2)) - (widths - 1) / 2
    tops = views[..., 1].mean(axis=(1, 2)) - (heights - 1) / 2
    return tops, lefts, heights, widths


def coordinates(height, width):
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([x, y, 0 * x], axis=-1)


def test_a_labelled_crop_is_a_random_window_flipped_half_of_the_time():
    image, number = coordinates(36, 48), 400
    crops = single_crops(image, number, area=(0.2, 1.0), image_size=64)
    mirrored = crops[:, 32, 40, 0] < crops[:, 32, 20, 0]
    assert 0.4 < np.mean(mirrored) < 0.6
    crops[mirrored] = crops[mirrored, :, ::-1]
    tops, lefts, heights, widths = windows_from_ramps(crops, 36, 48)
    rng = np.random.default_rng(0)
    expected = np.array([reference.crop_window(36, 48, (0.2, 1.0), rng) for _ in range(6000)], float).T
    limit = reference.kolmogorov_limit(number, 6000)
    # The measured windows are whole numbers up to float32.
    for found, wanted in zip((tops, lefts, heights, widths), expected):
        assert np.abs(found - np.round(found)).max() < 0.02
        assert reference.kolmogorov_distance(np.round(found), wanted) < limit


@tf.function
def changed(image, step, strength):
    return pixels.change(image, step, strength)


@pytest.mark.parametrize("step", STEP_NAMES)
def test_colour_steps_agree_with_the_reference_and_pillow(step):
    name = STEP_NAMES[step]
    image = (random_image(11, 11, seed=5) / 255).astype(np.float32)
    # Hues without a chroma, at each sixth, and pixels that clip.
    image[0, :8] = list(itertools.product((0, 1), repeat=3))
    image[1, :3] = [[0.5] * 3, [0.2, 0.2, 0.7], [0.7, 0.2, 0.7]]
    for strength in {"hue": (-0.5, -0.1, 0.0, 0.1, 0.5), "grey": (0.0,)}.get(name, (0.0, 0.6, 0.9, 1.0, 1.4)):
        found = from_planes(changed(planes(image), tf.constant(step), tf.constant(strength, tf.float32)))
        np.testing.assert_allclose(found, getattr(reference, name)(image.astype(float), strength), atol=2e-6)
        enhancer = {"brightness": "Brightness", "contrast": "Contrast", "saturation": "Color"}.get(name)
        if enhancer:
            # Pillow rounds the image, the mean and the result.
            np.testing.assert_allclose(found, reference.pillow_enhance(enhancer, image, strength), atol=2.5 / 255)
    if name == "grey":
        np.testing.assert_allclose(found, reference.pillow_enhance("Color", image, 0.0), atol=1.01 / 255)


def test_a_step_of_nothing_changes_nothing():
    image = planes((random_image(5, 5) / 255).astype(np.float32))
    np.testing.assert_array_equal(changed(image, tf.constant(drawing.NOTHING), tf.constant(1.0)), image)


@pytest.mark.parametrize("image_size", [32, 96])
def test_blur_is_a_gaussian(image_size):
    image, radius = random_image(image_size, image_size) / np.float32(255), math.ceil(6 * image_size / 224)
    for sigma in (0.1 * image_size / 224, 0.3, 2.0 * image_size / 224):
        weights = pixels.blur_weights(tf.constant(sigma, tf.float32), image_size)
        np.testing.assert_allclose(weights, reference.gaussian(np.arange(-radius, radius + 1), sigma), atol=1e-6)
        blurred = from_planes(pixels.blur(pixels.blur(planes(image), weights, 1), weights, 2))
        np.testing.assert_allclose(blurred, reference.blur(image.astype(float), sigma, radius), atol=1e-5)


def test_blur_keeps_a_constant_image_and_a_tiny_one():
    weights = pixels.blur_weights(tf.constant(0.28), 32)
    constant = np.broadcast_to(np.float32([0.2, 0.5, 0.9]), (32, 32, 3))
    np.testing.assert_allclose(from_planes(pixels.blur(planes(constant), weights, 1)), constant, atol=1e-6)
    # At 8 px every sigma is below 0.08 px: nothing is left of a neighbour's weight.
    weights = pixels.blur_weights(tf.constant(2.0 * 8 / 224), 8).numpy()
    np.testing.assert_allclose(weights, np.eye(len(weights))[len(weights) // 2], atol=1e-6)


@pytest.mark.parametrize("image_size", [16, 48])
def test_whole_views_agree_with_the_reference_from_the_same_draws(image_size, monkeypatch):
    number, recipe = 24, Recipe(grey_probability=0.1, vertical_flip=True, quarter_turns=True)
    images = [random_image(20 + 3 * n, 90 - 2 * n, seed=n) for n in range(number)]
    uniforms = draw_uniforms(tf.constant(seeds_of(number)), num_views=2)
    sizes = np.array([image.shape[:2] for image in images])
    windows = draw_windows(uniforms, sizes[:, 0], sizes[:, 1], area=recipe.crop_area).numpy()
    draws = parameters(uniforms.numpy().reshape(2 * number, -1), image_size, **vars(recipe))
    monkeypatch.setitem(RECIPES, "own", recipe)
    make_views = make_policy("own", image_size=image_size).make_views
    views = make_views(pictures(images), seeds_of(number), num_views=2).numpy()
    assert draws.blurred.any() and not draws.blurred.all()
    for m, view in enumerate(views.reshape(2 * number, image_size, image_size, 3)):
        steps = [(STEP_NAMES[s], x) for s, x in zip(draws.steps[m], draws.strengths[m]) if s in STEP_NAMES]
        expected = reference.view(
            images[m % number],
            windows.reshape(2 * number, 4)[m],
            steps,
            sigma=draws.sigma[m] if draws.blurred[m] else None,
            radius=max(1, math.ceil(6 * image_size / 224)),
            mirrored=draws.mirrored[m],
            upside_down=draws.upside_down[m],
            transposed=transposed(draws)[m],
            image_size=image_size,
        )
        # Where a chroma is nearly none, the smallest rounding turns its hue.
        np.testing.assert_allclose(view, expected, atol=2e-3)
        assert np.abs(view - expected).mean() < 2e-5


# Policies as a whole.


@pytest.mark.parametrize("quarter_turns", [False, True])
def test_a_square_is_laid_every_way_as_often_and_nothing_else_changes(quarter_turns, monkeypatch):
    image, number = random_image(16, 16), 200
    whole = {**NOTHING, "crop_area": (1.0, 1.0), "vertical_flip": True, "quarter_turns": quarter_turns}
    upright = image / 127.5 - 1
    # A rotation by quarters, mirrored or not: NumPy's own rotations and not ours of rows and columns.
    turned = [np.rot90(upright, quarters) for quarters in (range(4) if quarter_turns else (0, 2))]
    ways = [way for one in turned for way in (one, one[:, ::-1])]
    views = views_of([image] * number, monkeypatch, **whole).reshape(-1, 16, 16, 3)
    distances = np.array([[np.abs(view - known).max() for known in ways] for view in views])
    assert distances.min(axis=1).max() < 1e-5
    share, counts = 1 / len(ways), np.bincount(distances.argmin(axis=1), minlength=len(ways))
    assert np.abs(counts - len(views) * share).max() < 4 * math.sqrt(len(views) * share * (1 - share))


def test_grey_and_blur_change_what_they_should(monkeypatch):
    images = [random_image(200, 200)] * 8
    plain, grey, blurred = (
        views_of(images, monkeypatch, image_size=64, **{**NOTHING, **fields})
        for fields in ({}, {"grey_probability": 1.0}, {"blur_probability": 1.0})
    )
    assert np.ptp(plain, axis=-1).max(axis=(2, 3)).min() > 0.1
    assert np.ptp(grey, axis=-1).max() < 1e-6
    steps = [np.abs(np.diff(views, axis=2)).mean() for views in (plain, blurred)]
    assert steps[1] < 0.99 * steps[0]


PICTURES = {
    "grey jpeg": tf.io.encode_jpeg(random_image(40, 50)[..., :1], format="grayscale", quality=90),
    "4:3 jpeg": tf.io.encode_jpeg(random_image(75, 100)),
    "tall": tf.io.encode_png(random_image(90, 17)),
    "smaller than the view": tf.io.encode_png(random_image(9, 12)),
    "one pixel": tf.io.encode_png(random_image(1, 1)),
    "the view's size": tf.io.encode_png(random_image(32, 32)),
}


@pytest.mark.parametrize("image_size", [32, 64])
@pytest.mark.parametrize("name", RECIPES)
def test_views_of_any_image_have_the_shape_and_range(name, image_size):
    make_views = make_policy(name, image_size=image_size).make_views
    images = EncodedPictures(list(PICTURES.values()) * 4)
    views = make_views(images, seeds_of(len(images)), num_views=2)
    assert views.dtype == tf.float32 and views.shape == (2, len(images), image_size, image_size, 3)
    assert np.isfinite(views).all()
    assert np.min(views) >= -1 - 1e-5 and np.max(views) <= 1 + 1e-5
    # The range is used, not only kept.
    assert np.min(views) < -0.5 and np.max(views) > 0.5


@pytest.mark.parametrize("name", RECIPES)
def test_the_seed_alone_decides(name):
    make_views = make_policy(name, image_size=32).make_views
    arrays, seeds = [random_image(30 + n, 40, n) for n in range(6)], seeds_of(6)
    images = pictures(arrays)
    once = make_views(images, seeds, num_views=2).numpy()
    np.testing.assert_array_equal(once, make_policy(name, image_size=32).make_views(images, seeds, num_views=2))
    inside = tf.data.Dataset.from_tensors(seeds).map(lambda rows: make_views(images, rows, num_views=2))
    np.testing.assert_array_equal(once, next(iter(inside)))
    # Neither the place in the group nor its other images matter.
    order = [4, 1, 5]
    others = make_views(pictures([arrays[n] for n in order]), seeds[order], num_views=2)
    np.testing.assert_array_equal(once[:, order], others)
    assert len({view.tobytes() for view in once.reshape(12, -1)}) == 12
    for column in range(3):
        moved = make_views(images, seeds + 1000 * np.eye(3, dtype=np.int64)[column], num_views=2).numpy()
        assert (np.abs(moved - once).max(axis=(2, 3, 4)) > 1e-3).all()


def test_the_recipes_are_the_papers():
    """MoCo v2's numbers as SimSiam's appendix A states them, written down once more."""
    assert RECIPES["simsiam"] == Recipe((0.2, 1.0), 0.4, 0.4, 0.4, 0.1, 0.8, 0.2, 0.5, False, False)
    assert RECIPES["cifar"] == Recipe((0.2, 1.0), 0.4, 0.4, 0.4, 0.1, 0.8, 0.2, 0.0, False, False)
    mild = RECIPES["dermatoscopy"]
    assert mild.grey_probability == 0 and mild.vertical_flip and mild.quarter_turns and mild.hue < 0.1


def test_an_unknown_policy_is_answered_with_the_known():
    with pytest.raises(UserError) as error:
        make_policy("moco", image_size=32)
    assert "'moco'" in str(error.value) and "\n" not in str(error.value)
    assert all(name in str(error.value) for name in VIEW_POLICIES)


# keras-cv: no seed decides the pixels, so everything here is about distributions.


@pytest.fixture(scope="module")
def keras_cv_policy():
    """(recipe fields, S) -> policy; importing keras-cv takes seconds."""
    pytest.importorskip("keras_cv")
    from bitkeras.data.augment_keras_cv import KerasCvViews

    def make(image_size=16, **fields):
        # As the pipelines do; op seeds derived from it must not tie draws to each other.
        tf.random.set_seed(5)
        return KerasCvViews(Recipe(**{**NOTHING, **fields}), image_size=image_size, seed=0)

    return make


def keras_cv_pairs(policy, image, number):
    """[2, number, S, S, 3]: two views of each of `number` copies of an image, ten at once."""
    batches = tf.data.Dataset.range(number // 10)
    batches = batches.map(lambda _: policy.make_views(pictures([image] * 10), None, num_views=2))
    return np.concatenate(list(batches.as_numpy_iterator()), axis=1)


def keras_cv_views(policy, image, number):
    return keras_cv_pairs(policy, image, number // 2).reshape(number, *[policy.image_size] * 2, 3)


@pytest.mark.slow
def test_keras_cv_views_have_the_shape_and_range_and_differ(keras_cv_policy):
    del keras_cv_policy
    for image_size in (32, 64):
        make_views = make_policy("keras_cv", image_size=image_size).make_views
        images = tf.data.Dataset.from_tensor_slices(list(PICTURES.values()) * 5).batch(6, drop_remainder=True)
        views = images.map(
            lambda files, make_views=make_views: make_views(EncodedPictures(tf.unstack(files)), None, num_views=2)
        )
        assert views.element_spec == tf.TensorSpec([2, 6, image_size, image_size, 3], tf.float32)
        views = np.concatenate(list(views), axis=1)
        assert np.isfinite(views).all() and views.min() >= -1 - 1e-4 and views.max() <= 1 + 1e-4
        assert views.min() < -0.5 and views.max() > 0.5
        assert np.abs(views[0] - views[1]).max(axis=(1, 2, 3))[:2].min() > 0.01


@pytest.mark.slow
def test_keras_cv_crops_as_the_recipe_and_both_views_apart(keras_cv_policy):
    number = 600
    policy = keras_cv_policy(crop_area=(0.2, 1.0))
    pixels = (keras_cv_pairs(policy, coordinates(200, 200), number) + 1) * 127.5
    # Mirrored views have negative widths.
    windows = [windows_from_ramps(pixels[view], 200, 200)[2:] for view in range(2)]
    areas, ratios = np.transpose([(h * abs(w), abs(w) / h) for h, w in windows], (1, 0, 2))
    rng = np.random.default_rng(0)
    # keras-cv clips a side that is too long instead of drawing again.
    area, ratio = rng.uniform(0.2, 1.0, 20000), rng.uniform(3 / 4, 4 / 3, 20000)
    expected_heights, expected_widths = (np.minimum(np.sqrt(x), 1) for x in (area / ratio, area * ratio))
    limit = reference.kolmogorov_limit(number, 20000)
    for view in range(2):
        # keras-cv takes a view of 16 px of an image of 32 px from the middles of corner pixels, not from edge to edge.
        relative = areas[view] / 200**2 * (15 / 16 * 32 / 31) ** 2
        assert abs(relative.mean() - (expected_heights * expected_widths).mean()) < 0.03
        assert reference.kolmogorov_distance(ratios[view], expected_widths / expected_heights) < limit
        assert abs(np.corrcoef(areas[view], ratios[view])[0, 1]) < 4 / math.sqrt(number)
    for values in (areas, ratios):
        assert abs(np.corrcoef(values)[0, 1]) < 4 / math.sqrt(number), "the two views of a pair share their draws"


@pytest.mark.slow
def test_keras_cv_applies_each_operation_as_often_as_stated(keras_cv_policy):
    number = 400
    colours = np.full((24, 24, 3), (180, 110, 80), np.uint8)
    rates = {"jitter_probability": 0.8, "grey_probability": 0.2}
    for name, rate in rates.items():
        views = keras_cv_views(keras_cv_policy(**{name: rate}), colours, number)
        hits = np.abs(views - (colours[0, 0] / 127.5 - 1)).max(axis=(1, 2, 3)) > 2e-3
        assert within_binomial(hits, rate), f"{name}: {hits.mean()}"
    ramp = np.repeat(np.arange(0, 240, 10, dtype=np.uint8)[:, None, None], 24, axis=1).repeat(3, axis=2)
    for flip_both in (False, True):
        views = keras_cv_views(keras_cv_policy(vertical_flip=flip_both), ramp, number)
        upside_down = views[:, 0, 8, 0] > views[:, -1, 8, 0]
        assert within_binomial(upside_down, 0.5) if flip_both else not upside_down.any()
    views = keras_cv_views(keras_cv_policy(), ramp.transpose(1, 0, 2), number)
    assert within_binomial(views[:, 8, 0, 0] > views[:, 8, -1, 0], 0.5)


@pytest.mark.slow
def test_keras_cv_jitter_has_the_recipes_strengths(keras_cv_policy):
    number, grey, colour = 400, np.full((16, 16, 3), 128, np.uint8), np.full((16, 16, 3), (150, 110, 90), np.uint8)
    limit = reference.kolmogorov_limit(number, 5000)

    def views(image, **strengths):
        policy = keras_cv_policy(**{**STILL, "jitter_probability": 1.0, **strengths})
        return (keras_cv_views(policy, image, number).astype(float) + 1) / 2

    policy = keras_cv_policy(**{**STILL, "jitter_probability": 1.0, "brightness": 0.4})
    pairs = keras_cv_pairs(policy, grey, number)[:, :, 8, 8, 0]
    assert abs(np.corrcoef(pairs)[0, 1]) < 4 / math.sqrt(number), "the two views of a pair share their strengths"
    bright = views(grey, brightness=0.4)[:, 8, 8, 0] / (128 / 255)
    assert reference.kolmogorov_distance(bright, np.linspace(0.6, 1.4, 5000)) < limit
    hsv = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in views(colour, hue=0.1)[:, 8, 8]])
    turns = (hsv[:, 0] - colorsys.rgb_to_hsv(150, 110, 90)[0] + 0.5) % 1.0 - 0.5
    assert reference.kolmogorov_distance(turns, np.linspace(-0.1, 0.1, 5000)) < limit
    hsv = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in views(colour, saturation=0.4)[:, 8, 8]])
    factors = hsv[:, 1] / colorsys.rgb_to_hsv(150, 110, 90)[1]
    # The recipe's ends; between them keras-cv's x / (1 - x) is not quite uniform.
    expected = np.linspace(0.6 / 1.6, 1.4 / 2.4, 5000)
    assert reference.kolmogorov_distance(factors, expected / (1 - expected)) < limit
    assert 0.59 < factors.min() < 0.63 and 1.36 < factors.max() < 1.41
    halves = np.where(np.arange(16) < 8, 100, 150).astype(np.uint8)
    two = np.broadcast_to(halves[:, None, None], (16, 16, 3)).copy()
    monotone = keras_cv_policy(**{**STILL, "jitter_probability": 1.0, "contrast": 0.4, "crop_area": (1.0, 1.0)})
    spread = np.ptp((keras_cv_views(monotone, two, number) + 1) * 127.5, axis=(1, 2, 3)) / 50
    assert reference.kolmogorov_distance(spread, np.linspace(0.6, 1.4, 5000)) < limit


@pytest.mark.slow
def test_keras_cv_blur_has_the_recipes_sigma_and_no_dark_frame(keras_cv_policy):
    constant = np.full((64, 64, 3), 200, np.uint8)
    policy = keras_cv_policy(image_size=64, blur_probability=1.0)
    np.testing.assert_allclose(keras_cv_views(policy, constant, 20), 200 / 127.5 - 1, atol=1e-4)
    # Red: a step in the middle. Green: a ramp, by which the views of the whole width are known.
    step = np.zeros((128, 128, 3), np.uint8)
    step[:, 64:, 0] = 255
    step[..., 1] = 2 * np.arange(128)
    policy = keras_cv_policy(image_size=64, blur_probability=1.0, crop_area=(1.0, 1.0))
    rows = (keras_cv_views(policy, step, 400)[:, 32] + 1) / 2
    whole = np.abs(np.abs(rows[:, 48, 1] - rows[:, 16, 1]) * 255 - 2 * 32 * 127 / 63) < 0.02
    assert 150 < whole.sum() < 300
    # In those the step falls between two pixels, and what is left of it in one place is the kernel's central weight.
    left = np.abs(np.diff(rows[whole, :, 0])).max(axis=1)
    weights = [reference.gaussian(np.arange(-3, 4), sigma)[3] for sigma in np.linspace(0.1, 2.0, 2000) * 64 / 224]
    distance = reference.kolmogorov_distance(np.round(left, 4), np.round(weights, 4))
    assert distance < reference.kolmogorov_limit(whole.sum(), 2000)
