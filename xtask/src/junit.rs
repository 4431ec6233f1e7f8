//! Reads the report that cargo-nextest writes: one `testcase` for each test, its output within.

/// A test that ran.
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) seconds: f64,
    pub(crate) output: String,
}

/// The tests of a report.
pub(crate) fn tests(report: &str) -> Vec<Test> {
    let cases = report.split("<testcase ").skip(1);
    let test = |case: &str| {
        let output = case.split_once("<system-out>").and_then(|(_, rest)| rest.split_once("</system-out>"));
        Some(Test {
            name: format!("{} {}", attribute(case, "classname")?, attribute(case, "name")?),
            seconds: attribute(case, "time")?.parse().ok()?,
            output: output.map(|(text, _)| text.to_owned()).unwrap_or_default(),
        })
    };
    cases.filter_map(test).map(|test| Test { output: plain(&test.output), ..test }).collect()
}

fn attribute<'a>(case: &'a str, name: &str) -> Option<&'a str> {
    let marked = format!("{name}=\"");
    let begins = |at: usize| at == 0 || case.as_bytes()[at - 1] == b' ';
    let (at, _) = case.match_indices(&marked).find(|(at, _)| begins(*at))?;
    case[at + marked.len()..].split_once('"').map(|(value, _)| value)
}

/// Text without XML's escapes.
fn plain(text: &str) -> String {
    let escapes =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
    escapes.iter().fold(text.to_owned(), |text, (escape, sign)| text.replace(escape, sign))
}

#[cfg(test)]
mod tests {
    use super::tests;

    #[test]
    fn a_report_says_how_long_each_test_took_and_what_it_printed() {
        let report = r#"<testsuite name="a"><testcase classname="a::e2e" name="one::x" timestamp="t" time="1.250">
            <system-out>skipped: bq isn&apos;t &lt;here&gt;</system-out></testcase>
            <testcase name="two" classname="a" time="0.5"></testcase></testsuite>"#;
        let read: Vec<_> =
            tests(report).into_iter().map(|test| (test.name, test.seconds, test.output)).collect();
        let expected = [("a::e2e one::x", 1.25, "skipped: bq isn't <here>"), ("a two", 0.5, "")];
        assert_eq!(
            read,
            expected.map(|(name, seconds, output)| (name.to_owned(), seconds, output.to_owned()))
        );
    }
}
