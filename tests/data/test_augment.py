"""View operations against slow references, and policies by what they do over many seeds."""

import colorsys
import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
from reference import augment_reference as reference

from bitkeras.data import augment
from bitkeras.data.augment import RECIPES, VIEW_POLICIES, Recipe, colour_jitter, gaussian_blur, make_policy
from bitkeras.data.preprocess import decode_image, resize
from bitkeras.errors import UserError

NOTHING = {"jitter_probability": 0.0, "grey_probability": 0.0, "blur_probability": 0.0}
STILL = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def random_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def over_seeds(function, number):
    """[number, ...]: the function of seeds (7, 0), (7, 1), ... inside tf.data."""
    seeds = tf.data.Dataset.range(number).map(lambda n: tf.stack([7, tf.cast(n, tf.int32)]))
    return next(iter(seeds.map(function).batch(number))).numpy()


def views_of(image, number, monkeypatch, image_size=16, **fields):
    """Views by a recipe of its own, in [-1, 1]."""
    monkeypatch.setitem(RECIPES, "own", Recipe(**fields))
    policy = make_policy("own", image_size=image_size)
    return over_seeds(lambda seed: policy(tf.constant(image), seed), number)


def changed(views, others):
    return (np.abs(views - others) > 1e-6).any(axis=(1, 2, 3))


def within_binomial(hits, probability):
    """Within four standard deviations."""
    return abs(np.mean(hits) - probability) <= 4 * math.sqrt(probability * (1 - probability) / len(hits))


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
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([x, y, 0 * x], axis=-1)


def crops(height, width, area, number, image_size=64):
    image = tf.constant(coordinates(height, width))
    views = over_seeds(lambda seed: augment.random_resized_crop(image, seed, area=area, image_size=image_size), number)
    return windows_from_ramps(views, height, width)


@pytest.mark.parametrize(("height", "width"), [(48, 48), (36, 48), (24, 60)])
def test_windows_are_distributed_as_torchvisions(height, width):
    number, area = 1500, (0.2, 1.0)
    tops, lefts, heights, widths = crops(height, width, area, number)
    rng = np.random.default_rng(0)
    expected = np.array([reference.crop_window(height, width, area, rng) for _ in range(6000)], float).T
    limit = reference.kolmogorov_limit(number, 6000)
    # The measured windows are whole numbers up to float32.
    tops, lefts, heights, widths = (np.round(values) for values in (tops, lefts, heights, widths))
    assert reference.kolmogorov_distance(heights * widths, expected[2] * expected[3]) < limit
    assert reference.kolmogorov_distance(widths / heights, expected[3] / expected[2]) < limit
    assert reference.kolmogorov_distance(tops, expected[0]) < limit
    assert reference.kolmogorov_distance(lefts, expected[1]) < limit
    assert abs(np.corrcoef(heights * widths, widths / heights)[0, 1]) < abs(
        np.corrcoef(expected[2] * expected[3], expected[3] / expected[2])[0, 1]
    ) + 4 / math.sqrt(number)


def test_windows_stay_inside_the_image_and_reach_its_borders():
    tops, lefts, heights, widths = crops(40, 60, (0.35, 1.0), 1000)
    slack = 1e-2
    assert min(tops.min(), lefts.min()) > -slack
    assert (tops + heights).max() < 40 + slack
    assert (lefts + widths).max() < 60 + slack
    assert np.round(tops).min() == 0 and np.round(tops + heights).max() == 40
    assert np.round(lefts).min() == 0 and np.round(lefts + widths).max() == 60
    areas = heights * widths / (40 * 60)
    # Whole sides: half a pixel on each.
    assert areas.min() > 0.35 - 0.03 and areas.max() <= 1 + 1e-3
    assert (widths / heights).min() > 3 / 4 - 0.06 and (widths / heights).max() < 4 / 3 + 0.06


@pytest.mark.parametrize(("height", "width", "window"), [(20, 200, (20, 27)), (200, 20, (27, 20)), (40, 40, (40, 40))])
def test_where_no_window_fits_the_largest_centred_one_is_taken(height, width, window):
    tops, lefts, heights, widths = crops(height, width, (0.999, 1.0), 20)
    np.testing.assert_allclose(heights, window[0], atol=0.02)
    np.testing.assert_allclose(widths, window[1], atol=0.02)
    assert np.abs(tops + heights / 2 - height / 2).max() <= 0.52
    assert np.abs(lefts + widths / 2 - width / 2).max() <= 0.52


@pytest.mark.parametrize("image_size", [16, 40, 64])
def test_the_full_window_is_resized_as_everywhere_else(image_size):
    image = random_image(40, 40)
    crop = augment.random_resized_crop(tf.constant(image), (1, 2), area=(1.0, 1.0), image_size=image_size)
    np.testing.assert_allclose(crop, resize(tf.constant(image), image_size), atol=1e-4)


def test_grey_is_luma_and_agrees_with_pillow():
    image = random_image(9, 7) / np.float32(255)
    grey = augment.grey(tf.constant(image)).numpy()
    assert grey.shape == image.shape
    np.testing.assert_allclose(grey, np.repeat(reference.luma(image)[..., None], 3, axis=-1), atol=1e-6)
    np.testing.assert_allclose(grey, reference.pillow_enhance("Color", image, 0.0), atol=1.01 / 255)


JITTER_SEEDS = 400
# Without black, white and full colours nothing is clipped at these strengths, so factors can be read off the pixels.
MUTED = (0.35 + 0.3 * np.random.default_rng(3).random((5, 6, 3))).astype(np.float32)


def jittered(image=MUTED, number=JITTER_SEEDS, **strengths):
    recipe = Recipe(**{**STILL, **strengths})
    return over_seeds(lambda seed: colour_jitter(tf.constant(image), seed, recipe), number)


def factors_of(views, around):
    """The factor by which each view stretches MUTED around `around`, by least squares."""
    base = MUTED - around
    return ((views - around) * base).sum(axis=(1, 2, 3)) / (base**2).sum()


AROUND = {
    "brightness": np.zeros_like(MUTED),
    "contrast": np.full_like(MUTED, reference.luma(MUTED).mean()),
    "saturation": np.repeat(reference.luma(MUTED)[..., None], 3, axis=-1),
}
PILLOW = {"brightness": "Brightness", "contrast": "Contrast", "saturation": "Color"}


@pytest.mark.parametrize("operation", AROUND)
def test_factors_are_uniform_and_pixels_agree_with_the_reference(operation):
    views = jittered(**{operation: 0.4})
    factors = factors_of(views, AROUND[operation])
    assert factors.min() >= 0.6 - 1e-5 and factors.max() <= 1.4 + 1e-5
    uniform = np.linspace(0.6, 1.4, 5000)
    assert reference.kolmogorov_distance(factors, uniform) < reference.kolmogorov_limit(JITTER_SEEDS, 5000)
    for view, factor in zip(views[:40], factors[:40]):
        np.testing.assert_allclose(view, getattr(reference, operation)(MUTED, factor), atol=1e-5)
        # Pillow rounds the image, the mean and the result.
        np.testing.assert_allclose(view, reference.pillow_enhance(PILLOW[operation], MUTED, factor), atol=2.5 / 255)


def turns_of(views):
    """The change of hue of the first pixel, turns in (-1/2, 1/2)."""
    before = colorsys.rgb_to_hsv(*MUTED[0, 0].astype(float))[0]
    after = np.array([colorsys.rgb_to_hsv(*view[0, 0].astype(float))[0] for view in views])
    return (after - before + 0.5) % 1.0 - 0.5


def test_hue_turns_uniformly_and_agrees_with_colorsys():
    views = jittered(hue=0.1)
    turns = turns_of(views)
    assert np.abs(turns).max() <= 0.1 + 1e-4
    uniform = np.linspace(-0.1, 0.1, 5000)
    assert reference.kolmogorov_distance(turns, uniform) < reference.kolmogorov_limit(JITTER_SEEDS, 5000)
    for view, turn in zip(views[:40], turns[:40]):
        np.testing.assert_allclose(view, reference.hue(MUTED, turn), atol=1e-4)


def test_the_four_strengths_are_independent():
    strengths = [factors_of(jittered(**{name: 0.4}), around) for name, around in AROUND.items()]
    correlations = np.corrcoef([*strengths, turns_of(jittered(hue=0.1))])
    assert np.abs(correlations - np.eye(4)).max() < 4 / math.sqrt(JITTER_SEEDS)


def test_the_order_of_the_four_is_random():
    number, full = 120, {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
    # Strong colours: the operations clip, and only then (and for hue) their order matters.
    image = (random_image(3, 4, seed=5) / 255).astype(np.float32)
    strengths = {name: factors_of(jittered(number=number, **{name: 0.4}), AROUND[name]) for name in AROUND}
    strengths["hue"] = turns_of(jittered(number=number, hue=0.1))
    seen = set()
    for view, values in zip(jittered(image, number, **full), np.transpose(list(strengths.values()))):
        drawn = dict(zip(strengths, values))
        errors = {}
        for order in itertools.permutations(drawn):
            expected = image.astype(float)
            for name in order:
                expected = getattr(reference, name)(expected, drawn[name])
            errors[order] = np.abs(expected - view).max()
        best = sorted(errors, key=errors.get)
        assert errors[best[0]] < 2e-3, "no order of the four operations gives this view"
        if errors[best[1]] > 4e-3:
            seen.add(best[0])
    assert len(seen) >= 15, f"only {len(seen)} of 24 orders in {number} views"
    assert {order[0] for order in seen} == {order[-1] for order in seen} == set(drawn)


@pytest.mark.parametrize("image_size", [32, 96])
def test_blur_of_a_point_is_a_gaussian(image_size):
    point = np.zeros((image_size, image_size, 3), np.float32)
    centre, radius = image_size // 2, math.ceil(6 * image_size / 224)
    point[centre, centre] = (1.0, 0.5, 0.25)
    window = slice(centre - radius, centre + radius + 1)
    sigmas = []
    for blurred in over_seeds(lambda seed: gaussian_blur(tf.constant(point), seed, image_size), 250):
        profile = blurred[centre, window, 0].astype(float)
        # Neighbours on a Gaussian tell its sigma: their ratio is exp(-1 / (2 sigma^2)), which underflows below 0.1 px.
        ratio = profile[radius + 1] / profile[radius]
        sigmas.append(math.sqrt(-0.5 / math.log(ratio)) if ratio > 1e-21 else 0.1)
        weights = reference.gaussian(np.arange(-radius, radius + 1), sigmas[-1])
        expected = np.zeros_like(point)
        expected[window, window] = np.outer(weights, weights)[..., None] * (1.0, 0.5, 0.25)
        np.testing.assert_allclose(blurred, expected, atol=1e-5)
    wanted = np.maximum(np.linspace(0.1, 2.0, 5000) * image_size / 224, 0.1015)
    distance = reference.kolmogorov_distance(np.maximum(sigmas, 0.1015), wanted)
    assert distance < reference.kolmogorov_limit(len(sigmas), 5000)


def test_blur_keeps_a_constant_image_and_a_tiny_one():
    constant = np.full((32, 32, 3), (0.2, 0.5, 0.9), np.float32)
    for blurred in over_seeds(lambda seed: gaussian_blur(tf.constant(constant), seed, 32), 10):
        np.testing.assert_allclose(blurred, constant, atol=1e-6)
    # At 8 px every sigma is below 0.08 px: nothing is left of a neighbour's weight.
    image = (random_image(8, 8) / 255).astype(np.float32)
    for blurred in over_seeds(lambda seed: gaussian_blur(tf.constant(image), seed, 8), 10):
        np.testing.assert_allclose(blurred, image, atol=1e-6)


def test_every_operation_happens_as_often_as_stated(monkeypatch):
    number, image = 800, random_image(20, 20)
    strengths = {"jitter_probability": 0.8, "grey_probability": 0.2, "blur_probability": 0.5}

    def views(**fields):
        return views_of(image, number, monkeypatch, image_size=20, **{**NOTHING, **fields})

    # At this size a Gaussian changes next to nothing, and only its coin is asked here.
    monkeypatch.setattr(augment, "gaussian_blur", lambda view, seed, image_size: 1 - view)
    plain = views()
    happened = {name: changed(views(**{name: value}), plain) for name, value in strengths.items()}
    happened["vertical_flip"] = changed(views(vertical_flip=True), plain)
    ramp = np.repeat(np.arange(0, 200, 10, dtype=np.uint8)[None, :, None], 20, axis=0).repeat(3, axis=2)
    flipped = views_of(ramp, number, monkeypatch, image_size=20, **NOTHING)
    happened["horizontal_flip"] = flipped[:, 10, 0, 0] > flipped[:, 10, -1, 0]
    for name, hits in happened.items():
        assert within_binomial(hits, strengths.get(name, 0.5)), f"{name} in {np.mean(hits):.3f} of {number} views"
    correlations = np.corrcoef(np.array(list(happened.values()), float))
    assert np.abs(correlations - np.eye(5)).max() < 4 / math.sqrt(number)


def test_probability_zero_is_never_and_one_is_always(monkeypatch):
    image = random_image(16, 16)
    plain = views_of(image, 200, monkeypatch, **NOTHING)
    grey = views_of(image, 200, monkeypatch, **{**NOTHING, "grey_probability": 1.0})
    assert np.ptp(plain, axis=-1).max(axis=(1, 2)).min() > 0.1
    assert np.ptp(grey, axis=-1).max() < 1e-6


def test_the_coin_does_not_decide_the_strength(monkeypatch):
    """Were coin and strength one draw, jitter with probability 1/2 would only ever darken."""
    image = np.full((16, 16, 3), 100, np.uint8)
    views = views_of(image, 1000, monkeypatch, **{**NOTHING, **STILL, "jitter_probability": 0.5, "brightness": 0.4})
    factors = (views[:, 0, 0, 0] + 1) * 127.5 / 100
    factors = factors[np.abs(factors - 1) > 1e-5]
    uniform = np.linspace(0.6, 1.4, 5000)
    assert reference.kolmogorov_distance(factors, uniform) < reference.kolmogorov_limit(len(factors), 5000)


def test_flips_mirror_and_change_nothing_else(monkeypatch):
    image = random_image(16, 16)
    whole = {**NOTHING, "crop_area": (1.0, 1.0), "vertical_flip": True}
    upright = image / 127.5 - 1
    mirrored = [upright, upright[:, ::-1], upright[::-1], upright[::-1, ::-1]]
    distances = np.array(
        [[np.abs(view - known).max() for known in mirrored] for view in views_of(image, 200, monkeypatch, **whole)]
    )
    assert distances.min(axis=1).max() < 1e-5
    counts = np.bincount(distances.argmin(axis=1), minlength=4)
    assert counts.min() > 200 / 4 - 4 * math.sqrt(200 * 3 / 16)


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
    policy = make_policy(name, image_size=image_size)
    images = tf.data.Dataset.from_tensor_slices(list(PICTURES.values()) * 5).map(decode_image).enumerate()
    views = images.map(lambda n, image: policy(image, tf.stack([3, tf.cast(n, tf.int32)])))
    assert views.element_spec == tf.TensorSpec([image_size, image_size, 3], tf.float32)
    views = next(iter(views.batch(30))).numpy()
    assert np.isfinite(views).all()
    assert views.min() >= -1 - 1e-5 and views.max() <= 1 + 1e-5
    # The range is used, not only kept.
    assert views.min() < -0.5 and views.max() > 0.5


@pytest.mark.parametrize("name", RECIPES)
def test_the_seed_alone_decides_and_eager_agrees_with_tf_data(name):
    image = tf.constant(random_image(30, 40))
    policy = make_policy(name, image_size=32)
    once, again = (over_seeds(lambda seed: policy(image, seed), 12) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(once, over_seeds(lambda seed: make_policy(name, image_size=32)(image, seed), 12))
    eager = np.stack([policy(image, tf.constant([7, n])) for n in range(4)])
    np.testing.assert_allclose(eager, once[:4], atol=1e-5)
    assert len({view.tobytes() for view in once}) == 12
    assert changed(over_seeds(lambda seed: policy(image, seed + [1, 0]), 12), once).all()


def test_the_recipes_are_the_papers():
    """MoCo v2's numbers as SimSiam's appendix A states them, written down once more."""
    assert RECIPES["simsiam"] == Recipe((0.2, 1.0), 0.4, 0.4, 0.4, 0.1, 0.8, 0.2, 0.5, False)
    assert RECIPES["cifar"].blur_probability == 0
    assert RECIPES["dermatoscopy"].grey_probability == 0 and RECIPES["dermatoscopy"].vertical_flip


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
    from bitkeras.data.augment_keras_cv import make_keras_cv_policy

    def make(image_size=16, **fields):
        # As the pipelines do; op seeds derived from it must not tie draws to each other.
        tf.random.set_seed(5)
        return make_keras_cv_policy(Recipe(**{**NOTHING, **fields}), image_size=image_size, seed=0)

    return make


def keras_cv_views(policy, image, number):
    return over_seeds(lambda seed: policy(tf.constant(image), seed), number)


@pytest.mark.slow
def test_keras_cv_views_have_the_shape_and_range_and_differ(keras_cv_policy):
    del keras_cv_policy
    for image_size in (32, 64):
        policy = make_policy("keras_cv", image_size=image_size)
        images = tf.data.Dataset.from_tensor_slices(list(PICTURES.values()) * 5).map(decode_image)
        views = images.map(lambda image, policy=policy: policy(image, tf.constant([0, 0])))
        assert views.element_spec == tf.TensorSpec([image_size, image_size, 3], tf.float32)
        views = next(iter(views.batch(30))).numpy()
        assert np.isfinite(views).all() and views.min() >= -1 - 1e-4 and views.max() <= 1 + 1e-4
        assert views.min() < -0.5 and views.max() > 0.5
        first, second = (policy(tf.constant(random_image(40, 50)), tf.constant([0, 0])).numpy() for _ in range(2))
        assert np.abs(first - second).max() > 0.01


@pytest.mark.slow
def test_keras_cv_crops_as_the_recipe_and_both_views_apart(keras_cv_policy):
    number = 600
    policy = keras_cv_policy(crop_area=(0.2, 1.0))
    image = tf.constant(coordinates(200, 200))
    pairs = over_seeds(lambda seed: tf.stack([policy(image, seed), policy(image, seed)]), number)
    pixels = (pairs + 1) * 127.5
    # Mirrored views have negative widths.
    windows = [windows_from_ramps(pixels[:, view], 200, 200)[2:] for view in range(2)]
    areas, ratios = np.transpose([(h * abs(w), abs(w) / h) for h, w in windows], (1, 0, 2))
    rng = np.random.default_rng(0)
    # keras-cv clips a side that is too long instead of drawing again.
    area, ratio = rng.uniform(0.2, 1.0, 20000), rng.uniform(3 / 4, 4 / 3, 20000)
    expected_heights, expected_widths = (np.minimum(np.sqrt(x), 1) for x in (area / ratio, area * ratio))
    limit = reference.kolmogorov_limit(number, 20000)
    for view in range(2):
        # 3 %: a view of 16 px samples corner to corner, windows_from_ramps from edge to edge.
        relative = areas[view] / 200**2 * (15 / 16) ** 2
        assert abs(relative.mean() - (expected_heights * expected_widths).mean()) < 0.04
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
    pairs = over_seeds(lambda seed: tf.stack([policy(tf.constant(grey), seed)[8, 8, 0] for _ in range(2)]), number)
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 4 / math.sqrt(number), "the two views of a pair share their strengths"
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
