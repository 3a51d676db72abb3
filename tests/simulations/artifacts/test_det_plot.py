import xml.etree.ElementTree as ElementTree

from fedspeech.evaluation.streaming import OperatingPoint
from simulations.artifacts.det_plot import det_svg


def point(threshold, accepts, rejected):
    return OperatingPoint(
        threshold=threshold, false_accepts=accepts, hours=2.0, rejected=rejected, keywords=100
    )


def test_the_picture_is_valid_names_what_it_shows_and_falls_to_the_right():
    curve = [point(0.2, 2_000, 0), point(0.5, 20, 10), point(0.9, 2, 40), point(0.99, 0, 90)]
    root = ElementTree.fromstring(det_svg(curve, curve[1], "a <model> & more"))
    space = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in root.iter(f"{space}text")]
    assert {"a <model> & more", "false accepts per hour", "keywords missed", "100 %"} <= {*texts}
    assert "threshold 0.500" in texts
    line = root.find(f"{space}polyline").get("points").split()
    places = [tuple(map(float, pair.split(","))) for pair in line]
    assert places == sorted(places, key=lambda place: -place[0])
    assert [y for _, y in places] == sorted(y for _, y in places)[::-1]
    for x, y in places:
        assert 0 <= x <= 640
        assert 0 <= y <= 420
