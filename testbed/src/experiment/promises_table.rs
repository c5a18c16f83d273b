//! What guarantees cost, in words and a plot, beside what OpenNF has published.

use weir_api::dataplane::v1::Guarantee;

use super::plot::{self, Axis, Scale, Shape};
use super::promises::{GUARANTEES, Promise, name};

/// OpenNF (2014), PRADS, 500 flows, with both of its optimisations where there are figures with
/// them; those at 10,000 packets a second are read off its plots, without early release but where
/// it says otherwise.
struct Published {
    rate: u64,
    guarantee: Guarantee,
    ms: &'static str,
    lost: &'static str,
    held: &'static str,
    latency: &'static str,
    reordered: &'static str,
}

const PUBLISHED: [Published; 6] = [
    Published {
        rate: 2_500,
        guarantee: Guarantee::None,
        ms: "134",
        lost: "225",
        held: "0",
        latency: "–",
        reordered: "–",
    },
    Published {
        rate: 2_500,
        guarantee: Guarantee::LossFree,
        ms: "216",
        lost: "0",
        held: "326",
        latency: "50 / 90 ms",
        reordered: "yes",
    },
    Published {
        rate: 2_500,
        guarantee: Guarantee::Ordered,
        ms: "424",
        lost: "0",
        held: "326 + 100",
        latency: "70 / 96 ms",
        reordered: "0",
    },
    Published {
        rate: 10_000,
        guarantee: Guarantee::None,
        ms: "–",
        lost: "830",
        held: "0",
        latency: "–",
        reordered: "–",
    },
    Published {
        rate: 10_000,
        guarantee: Guarantee::LossFree,
        ms: "530",
        lost: "0",
        held: "–",
        latency: "465 / 573 ms; 201 ms on average with early release",
        reordered: "yes",
    },
    Published {
        rate: 10_000,
        guarantee: Guarantee::Ordered,
        ms: "–",
        lost: "–",
        held: "–",
        latency: "–",
        reordered: "–",
    },
];

/// The section of the report.
pub(super) fn section(promises: &[Promise]) -> String {
    let moves = promises.iter().map(|promise| promise.took_us.len()).max().unwrap_or_default();
    let mut text = format!(
        "## What guarantees cost\n\nOpenNF's table: 500 flows through the intrusion detection, all \
         moved {moves} times to and fro. Of OpenNF the figures of one move, 2014. Of Weir: the time \
         of the median move; lost, held and reordered packets of all moves together; what a move \
         adds to the latency of a packet that it holds, on average and at most, measured by the \
         router for each; and the latency from host to host of each packet that arrived around \
         moves and at other times, measured by the hosts, whose threads share the cores with the \
         router.\n\n\
         | packets/s | promised | OpenNF: ms | lost | held | added latency avg / max | reordered | \
         Weir: ms | lost | held | added latency avg / max µs | reordered | host to host around \
         moves avg / max µs | at other times avg / max µs |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n"
    );
    for promise in promises {
        let is_this = |known: &&Published| {
            known.rate == promise.rate && name(known.guarantee) == promise.guarantee
        };
        let published = PUBLISHED.iter().find(is_this).map_or_else(
            || "– | – | – | – | –".to_owned(),
            |known| {
                let Published { ms, lost, held, latency, reordered, .. } = known;
                format!("{ms} | {lost} | {held} | {latency} | {reordered}")
            },
        );
        let held = if promise.held == 0 {
            "–".to_owned()
        } else {
            format!("{:.0} / {:.0}", promise.hold_mean_us, promise.hold_max_us)
        };
        text += &format!(
            "| {} | {} | {published} | {:.2} | {} | {} | {held} | {} | {:.0} / {:.0} | {:.0} / \
             {:.0} |\n",
            promise.rate,
            promise.guarantee,
            promise.move_ms(),
            promise.lost,
            promise.held,
            promise.reordered,
            promise.around.mean_us,
            promise.around.max_us,
            promise.apart.mean_us,
            promise.apart.max_us,
        );
    }
    text + "\nWhat is lost is counted by the router, packet by packet, as `state_in_transit`.\n\n\
            ![guarantees](guarantees.svg)\n"
}

/// A part of the last line of the output.
pub(super) fn line(promises: &[Promise]) -> String {
    let of = |guarantee: Guarantee| {
        let of = promises.iter().filter(|promise| promise.guarantee == name(guarantee));
        let (ms, lost, reordered): (Vec<_>, Vec<_>, Vec<_>) = of
            .map(|p| (format!("{:.2}", p.move_ms()), p.lost.to_string(), p.reordered.to_string()))
            .collect();
        let [ms, lost, reordered] = [ms, lost, reordered].map(|figures| figures.join("/"));
        format!("{} {ms} ms, {lost} lost, {reordered} reordered", name(guarantee))
    };
    format!("500 flows at 2,500/10,000 packets/s: {}", GUARANTEES.map(of).join("; "))
}

/// The time of each move, by rate and guarantee.
pub(super) fn plot(promises: &[Promise]) -> String {
    let dots = (1..).zip(promises).flat_map(|(place, promise)| {
        promise.took_us.iter().map(move |us| (f64::from(place), us / 1e3))
    });
    let axes = [
        Axis {
            title: "none, loss-free, ordered; at 2,500 and at 10,000 packets/s",
            scale: Scale::Linear(promises.len().max(1) as f64),
        },
        Axis { title: "ms", scale: Scale::Log(-2, 3) },
    ];
    let opennf = [(134.0, "none"), (216.0, "loss-free"), (424.0, "ordered")];
    let opennf = opennf.map(|(ms, name)| Shape::Across(ms, format!("OpenNF, {name}, {ms:.0} ms")));
    let shapes: Vec<_> = opennf.into_iter().chain([Shape::Dots(dots.collect())]).collect();
    plot::svg("Time of a move of 500 flows", axes, &shapes)
}

#[cfg(test)]
mod tests {
    use super::super::promises::tests::kept;
    use super::*;

    #[test]
    fn each_row_stands_beside_what_was_published() {
        let promises = GUARANTEES.map(kept);
        let text = section(&promises);
        assert!(text.contains("| 2500 | none | 134 | 225 | 0 | – | – | 0.40 | 7 |"), "{text}");
        assert!(text.contains("| 2500 | ordered | 424 | 0 |"), "{text}");
        let said = line(&promises);
        assert!(said.contains("loss-free 0.40 ms, 0 lost, 5 reordered"), "{said}");
        assert_eq!(plot(&promises).matches("<circle").count(), 9);
    }
}
