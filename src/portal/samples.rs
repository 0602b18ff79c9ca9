//! The code that receivers are shown: what stands in `docs/verify.md` and in the SDK's README, word
//! for word, because it is run there by the tests.

/// A piece of code, for which framework or language, and what to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) title: &'static str,
    pub(super) note: &'static str,
    pub(super) code: &'static str,
}

const WITH_SDK: &str = include_str!("../../sdk/typescript/README.md");
const WITHOUT: &str = include_str!("../../docs/verify.md");

/// Those with the SDK first.
pub(super) fn all() -> Vec<Sample> {
    let with = of_section(WITH_SDK, "## A receiver in your framework");
    with.into_iter().chain(of_section(WITHOUT, "## Without one")).collect()
}

/// The subsections of a section that have code: a title, maybe a note, and the first fence.
fn of_section(document: &'static str, heading: &str) -> Vec<Sample> {
    let Some((_, rest)) = document.split_once(heading) else { return Vec::new() };
    let section = rest.split("\n## ").next().unwrap_or_default();
    section.split("\n### ").skip(1).filter_map(sample).collect()
}

fn sample(part: &'static str) -> Option<Sample> {
    let (title, rest) = part.split_once('\n')?;
    let (note, rest) = rest.split_once("```")?;
    let (_, rest) = rest.split_once('\n')?;
    let (code, _) = rest.split_once("\n```")?;
    Some(Sample { title, note: note.trim(), code })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frameworks_and_languages_that_people_use_are_there() {
        let samples = all();
        let titles: Vec<_> = samples.iter().map(|sample| sample.title).collect();
        for wanted in
            ["Express", "Fastify", "Hono", "Next", "Workers", "Python", "Go", "Rust", "PHP", "Ruby"]
        {
            assert!(titles.iter().any(|title| title.contains(wanted)), "{wanted} in {titles:?}");
        }
        for sample in samples {
            assert!(sample.code.lines().count() > 2, "{sample:?}");
            assert!(!sample.code.contains("```") && !sample.note.contains('#'), "{sample:?}");
        }
    }
}
