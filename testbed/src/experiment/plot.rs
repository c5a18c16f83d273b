//! Plots as SVG, by hand: two plots of points and steps need a hundred lines here, and any crate
//! that draws them brings fonts, images and more dependencies than the whole testbed has.

use std::fmt::Write as _;

/// Size of a plot and the room for its axes, in pixels.
const SIZE: [f64; 2] = [640.0, 400.0];
const MARGIN: [f64; 2] = [70.0, 50.0];

/// A scale of an axis.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scale {
    /// From zero to this.
    Linear(f64),
    /// Powers of ten, from and to.
    Log(i32, i32),
}

/// An axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis<'a> {
    pub(super) title: &'a str,
    pub(super) scale: Scale,
}

/// Figures in a plot.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// A dot for each.
    Dots(Vec<(f64, f64)>),
    /// A line that goes on level until the next point.
    Steps(Vec<(f64, f64)>),
    /// A line across, with its name.
    Across(f64, String),
    /// A line upright, with its name.
    Upright(f64, String),
}

impl Scale {
    /// Where a value is between the ends of the axis: 0 to 1. What is beyond is at the end.
    fn place(self, value: f64) -> f64 {
        let place = match self {
            Self::Linear(most) => value / most,
            Self::Log(from, to) => {
                (value.max(f64::MIN_POSITIVE).log10() - f64::from(from)) / f64::from(to - from)
            }
        };
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }

    fn marks(self) -> Vec<f64> {
        match self {
            Self::Linear(most) => (0..=5).map(|fifth| most * f64::from(fifth) / 5.0).collect(),
            Self::Log(from, to) => (from..=to).map(|power| 10_f64.powi(power)).collect(),
        }
    }
}

/// A plot as a file of SVG.
pub(super) fn svg(title: &str, axes: [Axis<'_>; 2], shapes: &[Shape]) -> String {
    let [width, height] = SIZE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let at = |x: f64, y: f64| {
        let [left, low] = MARGIN;
        let across = left + axes[0].scale.place(x) * (width - 1.5 * left);
        (across, height - low - axes[1].scale.place(y) * (height - 2.0 * low))
    };
    text(&mut svg, (width / 2.0, MARGIN[1] / 2.0), "middle", title);
    text(&mut svg, (width / 2.0, height - 10.0), "middle", axes[0].title);
    text(&mut svg, (5.0, MARGIN[1] - 12.0), "start", axes[1].title);
    let least = |axis: usize| axes[axis].scale.marks()[0];
    let most = |axis: usize| axes[axis].scale.marks().last().copied().unwrap_or(1.0);
    for x in axes[0].scale.marks() {
        line(&mut svg, at(x, least(1)), at(x, most(1)), "#ddd");
        let (across, down) = at(x, least(1));
        text(&mut svg, (across, down + 16.0), "middle", &number(x));
    }
    for y in axes[1].scale.marks() {
        line(&mut svg, at(least(0), y), at(most(0), y), "#ddd");
        let (across, down) = at(least(0), y);
        text(&mut svg, (across - 6.0, down + 4.0), "end", &number(y));
    }
    for shape in shapes {
        match shape {
            Shape::Dots(points) => points.iter().for_each(|(x, y)| dot(&mut svg, at(*x, *y))),
            Shape::Steps(points) => {
                for pair in points.windows(2) {
                    let [(x, y), (next, low)] = [pair[0], pair[1]];
                    line(&mut svg, at(x, y), at(next, y), "#06c");
                    line(&mut svg, at(next, y), at(next, low), "#06c");
                }
            }
            Shape::Across(y, name) => {
                line(&mut svg, at(least(0), *y), at(most(0), *y), "#c00");
                let (across, down) = at(most(0), *y);
                text(&mut svg, (across, down - 4.0), "end", name);
            }
            Shape::Upright(x, name) => {
                line(&mut svg, at(*x, least(1)), at(*x, most(1)), "#c00");
                let (across, down) = at(*x, most(1));
                text(&mut svg, (across - 4.0, down + 14.0), "end", name);
            }
        }
    }
    svg + "</svg>\n"
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    // Writing to a string does not fail.
    let _ok = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
    );
}

fn dot(svg: &mut String, (x, y): (f64, f64)) {
    let _ok = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#06c\"/>");
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ok =
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

/// A number at an axis.
fn number(value: f64) -> String {
    if value >= 10.0 || value == 0.0 { format!("{value:.0}") } else { format!("{value}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_places_and_what_is_beyond_is_at_the_end() {
        let linear = [-1.0, 0.0, 5.0, 10.0, 99.0].map(|value| Scale::Linear(10.0).place(value));
        assert_eq!(linear, [0.0, 0.0, 0.5, 1.0, 1.0]);
        let log = [0.0, 0.1, 10.0, 1_000.0, f64::NAN].map(|value| Scale::Log(-1, 3).place(value));
        assert_eq!(log, [0.0, 0.0, 0.5, 1.0, 0.0]);
        assert_eq!(Scale::Linear(0.0).place(0.0), 0.0);
    }

    #[test]
    fn all_shapes_are_drawn_and_text_stays_text() {
        let axes = [
            Axis { title: "move", scale: Scale::Linear(2.0) },
            Axis { title: "ms", scale: Scale::Log(-1, 3) },
        ];
        let shapes = [
            Shape::Dots(vec![(1.0, 1.0), (2.0, 10.0)]),
            Shape::Steps(vec![(0.0, 9.0), (1.0, 5.0)]),
            Shape::Across(260.0, "OpenNF".to_owned()),
            Shape::Upright(1.0, "a < b & c".to_owned()),
        ];
        let svg = svg("times", axes, &shapes);
        let marks = 6 + 5;
        assert_eq!(svg.matches("<circle").count(), 2);
        assert_eq!(svg.matches("<line").count(), marks + 2 + 2);
        assert!(svg.contains("a &lt; b &amp; c") && svg.ends_with("</svg>\n"), "{svg}");
    }
}
