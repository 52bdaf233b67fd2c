//! Lines over seconds as SVG. Enough for limits and rates, and nothing more.

use std::fmt::Write;

/// One line of a chart.
pub struct Line {
    pub name: String,
    /// So many for each second as the chart says.
    pub values: Vec<f64>,
}

/// A chart of seconds against something.
pub struct Chart {
    pub title: String,
    pub unit: &'static str,
    pub per_second: usize,
    pub lines: Vec<Line>,
}

impl Chart {
    /// The whole document.
    pub fn svg(&self) -> String {
        let points = self.lines.iter().map(|line| line.values.len()).max().unwrap_or(0).max(2);
        let seconds = (points - 1) as f64 / self.per_second as f64;
        let values = self.lines.iter().flat_map(|line| line.values.iter().copied());
        let top = nice(values.fold(1.0, f64::max));
        let x = |second: f64| LEFT + second / seconds * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" \
             fill=\"white\"/>\n"
        );
        text(&mut svg, LEFT, 16.0, "start", "#000", &format!("{} ({})", self.title, self.unit));
        for tick in 0..=TICKS {
            let share = f64::from(tick) / f64::from(TICKS);
            let (second, value) = (seconds * share, top * share);
            let (at, level) = (x(second), y(value));
            let right = WIDTH - RIGHT;
            let _ = writeln!(svg, "<path d=\"M{LEFT} {level:.1}H{right}\" stroke=\"#ddd\" fill=\"none\"/>");
            text(&mut svg, LEFT - 4.0, level + 4.0, "end", "#555", &format!("{value:.0}"));
            text(&mut svg, at, HEIGHT - BOTTOM + 14.0, "middle", "#555", &format!("{second:.0} s"));
        }
        for (index, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let points = line.values.iter().enumerate();
            let second = |point: usize| point as f64 / self.per_second as f64;
            let points = points.map(|(point, value)| format!("{:.1},{:.1}", x(second(point)), y(*value)));
            let points: Vec<String> = points.collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.2\"/>",
                points.join(" ")
            );
            let from_top = 16.0 + 13.0 * index as f64;
            text(&mut svg, WIDTH - RIGHT, from_top, "end", colour, &line.name);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, colour: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{content}</text>"
    );
}

/// The next number of the form 1, 2 or 5 times a power of ten.
fn nice(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(value)
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 24.0;
const TICKS: u32 = 5;
const COLOURS: [&str; 5] = ["#0b63c5", "#c5400b", "#2a8a3e", "#7a3fb0", "#777"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_drawn_and_names_are_text() {
        let lines = ["a<b", "c"].map(|name| Line { name: name.into(), values: vec![0.0, 120.0, 30.0] });
        let svg = Chart { title: "t".into(), unit: "requests", per_second: 1, lines: lines.into() }.svg();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("a&lt;b") && svg.contains(">200<") && svg.ends_with("</svg>\n"));
    }
}
