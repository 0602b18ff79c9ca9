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

    /// What the fences say of how the tests of the SDK run them; Rust's is compared with the one that
    /// `tests/vectors` runs.
    #[test]
    fn every_sample_is_one_that_the_tests_run() {
        let run = [
            "ts receiver=",
            "python run",
            "python framework=",
            "go run",
            "php run",
            "ruby run",
            "sh run",
        ];
        let documents = [WITH_SDK, WITHOUT].map(|text| text.replace("\r\n", "\n"));
        for sample in all() {
            let at = documents.iter().find_map(|text| {
                let (before, _) = text.split_once(&format!("\n{}\n```", sample.code))?;
                before.rsplit_once("```").map(|(_, kind)| kind.to_owned())
            });
            let kind = at.expect("it was cut out of a document");
            if kind == "rust" {
                let tested = include_str!("../../tests/vectors/example.rs");
                assert_eq!(sample.code, tested.trim_end());
            } else {
                assert!(run.iter().any(|known| kind.starts_with(known)), "{kind}: {sample:?}");
            }
        }
    }

    #[test]
    fn the_frameworks_and_languages_that_people_use_are_there() {
        let samples = all();
        let titles: Vec<_> = samples.iter().map(|sample| sample.title).collect();
        for wanted in [
            "Express", "Fastify", "Hono", "Next", "Workers", "Python", "FastAPI", "Flask", "Go",
            "Rust", "PHP", "Ruby",
        ] {
            assert!(titles.iter().any(|title| title.contains(wanted)), "{wanted} in {titles:?}");
        }
        for sample in samples {
            assert!(sample.code.lines().count() > 2, "{sample:?}");
            assert!(!sample.code.contains("```") && !sample.note.contains('#'), "{sample:?}");
        }
    }
}
