//! Line charts as SVG, without a script: colours and type come from the page's style.

use std::fmt::Write;

use super::text::number;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 42.0;
/// Series beyond these look like the first ones again.
pub const STYLES: usize = 6;

/// How values lie along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From zero.
    Linear,
    /// Powers of ten at equal distances.
    Log,
    /// Percentiles as −log₁₀ of what lies beyond: 90 %, 99 % and 99.9 % at equal distances.
    Percentile,
}

/// One line.
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// Lines in one picture.
pub struct Chart {
    /// What it shows.
    pub caption: String,
    /// The name and unit of what goes to the right.
    pub x_label: String,
    /// The name and unit of what goes up.
    pub y_label: String,
    /// How it goes to the right.
    pub x_scale: Scale,
    /// How it goes up.
    pub y_scale: Scale,
    /// The lines.
    pub series: Vec<Series>,
    /// Whether each point is marked, as where there are few.
    pub has_marks: bool,
}

/// One axis: from a value to a place.
struct Axis {
    scale: Scale,
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(scale: Scale, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Option<Self> {
        let is_drawn = |value: &f64| value.is_finite() && (scale != Scale::Log || *value > 0.0);
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(is_drawn) {
            (least, most) = (least.min(value), most.max(value));
        }
        if least > most {
            return None;
        }
        match scale {
            Scale::Linear => {
                least = least.min(0.0);
                most = if most > least { nice_above(most) } else { least + 1.0 };
            }
            Scale::Log => {
                least = 10_f64.powf(least.log10().floor());
                most = 10_f64.powf(most.log10().ceil()).max(least * 10.0);
            }
            Scale::Percentile => {
                least = 0.0;
                most = most.ceil().max(1.0);
            }
        }
        Some(Self { scale, least, most, from, to })
    }

    fn place(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Log => {
                (value.max(self.least).log10() - self.least.log10())
                    / (self.most.log10() - self.least.log10())
            }
            _ => (value - self.least) / (self.most - self.least),
        };
        self.from + share * (self.to - self.from)
    }

    /// Values with their names.
    fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => {
                let step = nice_above((self.most - self.least) / 5.0);
                let count = ((self.most - self.least) / step + 1e-9) as usize;
                (0..=count)
                    .map(|nth| self.least + nth as f64 * step)
                    .map(|value| (value, number(value)))
                    .collect()
            }
            Scale::Log => {
                let (first, last) = (self.least.log10().round() as i32, self.most.log10().round() as i32);
                (first..=last).map(|power| 10_f64.powi(power)).map(|value| (value, plain(value))).collect()
            }
            Scale::Percentile => {
                let names =
                    ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %"];
                let shown = names.iter().take(self.most as usize + 1);
                shown.enumerate().map(|(nth, name)| (nth as f64, (*name).to_owned())).collect()
            }
        }
    }
}

/// The least of 1, 2 and 5 times a power of ten that is not below.
fn nice_above(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0].into_iter().find(|times| times * power >= value * (1.0 - 1e-9));
    times.unwrap_or(10.0) * power
}

/// A power of ten without zeros that say nothing.
fn plain(value: f64) -> String {
    if value >= 1.0 { number(value) } else { format!("{value:.6}").trim_end_matches('0').to_owned() }
}

impl Chart {
    /// The chart with its caption and legend; nothing if there is nothing to draw.
    pub fn html(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = Axis::new(self.x_scale, points().map(|point| point.0), LEFT, WIDTH - RIGHT);
        let y = Axis::new(self.y_scale, points().map(|point| point.1), HEIGHT - BOTTOM, TOP);
        let (Some(x), Some(y)) = (x, y) else { return String::new() };
        let mut out = format!("<figure class=\"card\"><figcaption>{}</figcaption>", escape(&self.caption));
        out += &self.legend();
        let _ = write!(
            out,
            "<div class=\"wide\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.caption)
        );
        out += &self.frame(&x, &y);
        for (nth, series) in self.series.iter().enumerate() {
            let style = nth % STYLES;
            let places: Vec<_> = series
                .points
                .iter()
                .filter(|(one, other)| one.is_finite() && other.is_finite())
                .map(|(right, up)| (x.place(*right), y.place(*up), *right, *up))
                .collect();
            let line: Vec<_> = places.iter().map(|(right, up, ..)| format!("{right:.1},{up:.1}")).collect();
            let _ = write!(out, "<polyline class=\"s{style}\" points=\"{}\"/>", line.join(" "));
            for (right, up, across, value) in places.iter().filter(|_| self.has_marks) {
                let _ = write!(
                    out,
                    "<circle class=\"s{style}\" cx=\"{right:.1}\" cy=\"{up:.1}\" r=\"3.5\"><title>{}: {} at {}</title></circle>",
                    escape(&series.name),
                    number(*value),
                    number(*across)
                );
            }
        }
        out + "</svg></div></figure>"
    }

    fn frame(&self, x: &Axis, y: &Axis) -> String {
        let mut out = String::new();
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (value, name) in y.ticks() {
            let place = y.place(value);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{place:.1}\" y2=\"{place:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
                LEFT - 6.0,
                place + 4.0
            );
        }
        for (value, name) in x.ticks() {
            let place = x.place(value);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{place:.1}\" x2=\"{place:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                 <text x=\"{place:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
                bottom + 16.0
            );
        }
        let _ = write!(
            out,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text x=\"12\" y=\"{:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 12 {:.1})\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 6.0,
            escape(&self.x_label),
            (TOP + bottom) / 2.0,
            (TOP + bottom) / 2.0,
            escape(&self.y_label)
        );
        out
    }

    fn legend(&self) -> String {
        let entries = self.series.iter().enumerate().map(|(nth, series)| {
            format!(
                "<span><svg viewBox=\"0 0 28 10\" aria-hidden=\"true\"><polyline class=\"s{}\" points=\"0,5 28,5\"/></svg>{}</span>",
                nth % STYLES,
                escape(&series.name)
            )
        });
        format!("<div class=\"legend\">{}</div>", entries.collect::<String>())
    }
}

/// Text for HTML.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            plain => out.push(plain),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> Chart {
        Chart {
            caption: "a < b".to_owned(),
            x_label: "s".to_owned(),
            y_label: "ms".to_owned(),
            x_scale: Scale::Linear,
            y_scale: Scale::Log,
            series: vec![Series { name: "one".to_owned(), points }],
            has_marks: true,
        }
    }

    #[test]
    fn a_chart_without_points_is_nothing() {
        assert_eq!(chart(Vec::new()).html(), "");
        assert_eq!(chart(vec![(1.0, 0.0)]).html(), "");
    }

    #[test]
    fn a_chart_stays_within_its_frame_and_escapes_its_words() {
        let html = chart(vec![(0.0, 0.3), (7.0, 4000.0), (9.0, f64::NAN)]).html();
        assert!(html.contains("a &lt; b") && html.contains("</svg>"));
        assert_eq!(html.matches("<circle").count(), 2);
        assert!(html.contains(">0.1<") && html.contains(">10,000<"), "{html}");
    }

    #[test]
    fn percentiles_are_at_equal_distances() {
        let axis = Axis::new(Scale::Percentile, [0.0, 2.6].into_iter(), 0.0, 300.0).expect("values");
        assert_eq!((axis.place(1.0), axis.place(2.0), axis.place(3.0)), (100.0, 200.0, 300.0));
        let names: Vec<_> = axis.ticks().into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["0 %", "90 %", "99 %", "99.9 %"]);
    }

    #[test]
    fn nice_numbers_are_not_below() {
        for (value, nice) in [(0.7, 1.0), (1.0, 1.0), (1.1, 2.0), (4.2, 5.0), (70.0, 100.0)] {
            assert!((nice_above(value) - nice).abs() < 1e-9, "{value}");
        }
    }
}
