//! A curve as a picture: SVG, which every browser shows, light or dark as the reader's system is.

use std::fmt::Write;

use super::load::{Curve, Point};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 640.0;
/// The left and right end of both diagrams.
const LEFT: f64 = 90.0;
const RIGHT: f64 = 640.0;
/// The top and bottom of a diagram.
const ABOVE: (f64, f64) = (95.0, 300.0);
const BELOW: (f64, f64) = (370.0, 590.0);

const STYLE: &str = "\
svg{background:#fff;font:13px sans-serif}text{fill:#333}.title{font-size:16px;font-weight:bold}\
.grid{stroke:#ddd}.ideal{stroke:#999;stroke-dasharray:5 4;fill:none}.line{fill:none;stroke-width:2}\
.a{stroke:#0b62c4}.b{stroke:#c2410c}.a-dot{fill:#0b62c4}.b-dot{fill:#c2410c}\
@media(prefers-color-scheme:dark){svg{background:#15181c}text{fill:#d8dce2}.grid{stroke:#333a43}.ideal{stroke:#78828e}\
.a{stroke:#6cb0ff}.b{stroke:#ff9d66}.a-dot{fill:#6cb0ff}.b-dot{fill:#ff9d66}}";

impl Curve {
    /// What was written, and how late, against what was offered.
    pub(crate) fn to_svg(&self) -> String {
        let mut svg = String::new();
        let largest = Self::PERCENT.iter().max().copied().unwrap_or(100);
        let x = |percent: u32| LEFT + (RIGHT - LEFT) * f64::from(percent) / f64::from(largest);
        let title = escaped(&self.pipeline);
        // Writing to a String cannot fail.
        let _ = write!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\
             <title>{title}: throughput and latency against offered load</title><style>{STYLE}</style>\
             <text class=\"title\" x=\"{LEFT}\" y=\"28\">{title}</text>\
             <text x=\"{LEFT}\" y=\"50\">flat out {} events/s, which is 100 %</text>",
            rounded(self.knee_per_second)
        );
        let mut frame = |(top, bottom): (f64, f64), heading: &str, marks: &[(f64, String)]| {
            let _ = write!(svg, "<text x=\"{LEFT}\" y=\"{}\">{heading}</text>", top - 10.0);
            for (y, name) in marks {
                let _ = write!(
                    svg,
                    "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>\
                     <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
                    LEFT - 8.0,
                    y + 4.0
                );
            }
            for percent in [0, 50, 100, 150, 200] {
                let _ = write!(
                    svg,
                    "<path class=\"grid\" d=\"M{:.1} {top}V{bottom}\"/>\
                     <text x=\"{0:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{percent} %</text>",
                    x(percent),
                    bottom + 18.0
                );
            }
        };

        let most = 1.2
            * self
                .points
                .iter()
                .map(|(_, point)| point.per_second)
                .fold(self.knee_per_second, f64::max)
                .max(1.0);
        let rate_y = |rate: f64| ABOVE.1 - (ABOVE.1 - ABOVE.0) * (rate / most).min(1.0);
        let marks = [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| {
            let rate = share * self.knee_per_second;
            (rate_y(rate), rounded(rate))
        });
        frame(ABOVE, "events written a second, against offered load", &marks);

        // Whole powers of ten around what was measured, two of them at least.
        let power = |us: Option<u64>| (us.unwrap_or(1).max(1) as f64).log10();
        let low = power(self.points.iter().map(|(_, point)| point.latency.p50_us).min()).floor();
        let high = power(self.points.iter().map(|(_, point)| point.latency.p99_us).max());
        let high = high.ceil().max(low + 2.0);
        let late_y = |us: u64| {
            let place = ((us.max(1) as f64).log10() - low) / (high - low);
            BELOW.1 - (BELOW.1 - BELOW.0) * place.clamp(0.0, 1.0)
        };
        let marks: Vec<(f64, String)> = (low as u32..=high as u32)
            .map(|power| (late_y(10_u64.pow(power)), duration(10_u64.pow(power))))
            .collect();
        frame(BELOW, "from due to written, against offered load", &marks);

        let _ = write!(
            svg,
            "<path class=\"ideal\" d=\"M{LEFT} {:.1}L{:.1} {:.1}H{RIGHT}\"/>",
            rate_y(0.0),
            x(100),
            rate_y(self.knee_per_second)
        );
        let mut line = |class: &str, name: &str, below: f64, y: &dyn Fn(&Point) -> f64| {
            let places: Vec<(f64, f64)> =
                self.points.iter().map(|(percent, point)| (x(*percent), y(point))).collect();
            let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
            let _ = write!(svg, "<path class=\"line {class}\" d=\"M{}\"/>", path.join("L"));
            for (x, y) in &places {
                let _ = write!(
                    svg,
                    "<circle class=\"{class}-dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>"
                );
            }
            if let Some((x, y)) = places.last() {
                let (x, y) = (x + 10.0, y + below);
                let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\">{name}</text>");
            }
        };
        line("a", "written", 4.0, &|point| rate_y(point.per_second));
        line("a", "p50", 14.0, &|point| late_y(point.latency.p50_us));
        line("b", "p99", -4.0, &|point| late_y(point.latency.p99_us));
        svg.push_str("</svg>\n");
        svg
    }
}

/// `1.4 M`, `250 k`.
fn rounded(rate: f64) -> String {
    match rate {
        rate if rate >= 1e6 => format!("{:.2} M", rate / 1e6),
        rate if rate >= 1e3 => format!("{:.0} k", rate / 1e3),
        rate => format!("{rate:.0}"),
    }
}

/// `10 µs`, `1 ms`, `10 s`.
fn duration(us: u64) -> String {
    match us {
        1_000_000.. => format!("{} s", us / 1_000_000),
        1_000.. => format!("{} ms", us / 1_000),
        us => format!("{us} µs"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
