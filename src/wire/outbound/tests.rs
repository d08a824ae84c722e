//! Outbound lines: bounds and honesty; the exact bytes are in `tests/golden`.

use super::truncate::NOTE_MAX;
use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::time::UNIX_EPOCH;

const PLAIN: Response<'_> = Response {
    id: "a1",
    command_type: "OsInfo",
    success: true,
    exit_code: None,
    stdout: "",
    stderr: "",
    data: None,
    error: None,
    took: Duration::ZERO,
};

fn line(answer: &Response<'_>) -> Value {
    let mut out = b"kept".to_vec();
    response(answer, UNIX_EPOCH, &mut out);
    let line = out.strip_prefix(b"kept").unwrap();
    assert!(line.len() <= MAX_LINE && line.is_ascii() && line.ends_with(b"}\n"));
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    serde_json::from_slice(line).unwrap()
}

#[test]
fn a_failure_always_says_why_in_both_places() {
    let failed = Response { success: false, ..PLAIN };
    let why = |answer: Response<'_>| {
        let line = line(&answer);
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        (text("error"), text("stderr"))
    };
    let both = |text: &str| (text.to_owned(), text.to_owned());
    assert_eq!(why(Response { error: Some("denied"), ..failed }), both("denied"));
    assert_eq!(why(failed), both("it failed and did not say why"));
    let code = Response { exit_code: Some(7), ..failed };
    assert_eq!(why(code), both("the program ended with exit code 7"));
    let stderr = Response { stderr: "first\nlast \n\n", error: Some(" "), ..code };
    assert_eq!(why(stderr), ("last".to_owned(), "first\nlast \n\n".to_owned()));
    assert_eq!(line(&PLAIN)["error"], Value::Null);
}

#[test]
fn a_result_that_is_too_long_is_no_success_and_is_left_out_whole() {
    let fits = json!("x".repeat(DATA_BYTES_MAX - 2));
    let whole = line(&Response { data: Some(&fits), ..PLAIN });
    assert_eq!((&whole["data"], &whole["success"]), (&fits, &json!(true)));

    let long = json!(["é".repeat(DATA_BYTES_MAX / 6)]);
    let cut = line(&Response { data: Some(&long), stdout: "done", ..PLAIN });
    assert_eq!((&cut["data"], &cut["success"]), (&Value::Null, &json!(false)));
    assert!(cut["error"].as_str().unwrap().starts_with("it was done, but its result"));
    assert_eq!(cut["stdout"], "done");

    let failed = Response { data: Some(&long), success: false, error: Some("denied"), ..PLAIN };
    assert!(line(&failed)["error"].as_str().unwrap().starts_with("denied; its result"));
}

#[test]
fn long_streams_share_the_line_and_keep_head_and_tail() {
    let (long, short) = (format!("head{}tail", "\u{1}".repeat(1 << 20)), "y".repeat(1000));
    let one = line(&Response { stdout: &long, stderr: &short, ..PLAIN });
    assert_eq!(one["stderr"], short.as_str(), "the short one stays whole");
    let stdout = one["stdout"].as_str().unwrap();
    assert!(stdout.starts_with("head\u{1}") && stdout.ends_with("\u{1}tail"));
    assert!(stdout.contains(" bytes left out]\n"));
    let both = line(&Response { stdout: &long, stderr: &long, ..PLAIN });
    let [stdout, stderr] = ["stdout", "stderr"].map(|key| both[key].as_str().unwrap().len());
    assert!(stdout.abs_diff(stderr) < 100 && stdout > 80_000, "{stdout} {stderr}");
}

#[test]
fn nul_goes_out_nowhere() {
    let data = json!({"a\0b": "c\0d"});
    let answer = Response { id: "i\0", stdout: "x\0y", data: Some(&data), ..PLAIN };
    let mut out = Vec::new();
    response(&answer, UNIX_EPOCH, &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(!text.contains("\\u0000") && text.contains(r#"{"ab":"cd"}"#) && text.contains("xy"));
}

proptest! {
    #[test]
    fn what_fits_is_whole_and_what_does_not_is_cut_to_fit(
        text in "\\PC{0,40}|[\\x00-\\x7f]{0,300}|[é😀\\n\"a]{0,300}",
        room in 0..900_usize,
    ) {
        let cut = fit(&text, room);
        let mut out = Vec::new();
        Json(&mut out).text(&cut);
        prop_assert_eq!(out.len(), spelled(&cut) + 2, "what it costs is known before");
        prop_assert!(spelled(&cut) <= room);
        prop_assert_eq!(*cut == *text, spelled(&text) <= room);
        if *cut != *text && room >= NOTE_MAX {
            let (head, rest) = cut.split_once("\n[").unwrap();
            prop_assert!(rest.contains(" bytes left out]\n"));
            prop_assert!(text.starts_with(head));
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_response_of_any_texts_is_one_bounded_line_of_ascii_json(
        texts in prop::collection::vec(any::<String>(), 5),
        times in prop::collection::vec(0..20_000_usize, 5),
        numbers in any::<(Option<i32>, bool, u64)>(),
    ) {
        let long: Vec<String> = texts.iter().zip(&times).map(|(text, times)| text.repeat(*times)).collect();
        let data = json!({ "text": long[0] });
        let answer = Response {
            id: &long[1], command_type: &texts[0], success: numbers.1, exit_code: numbers.0,
            stdout: &long[2], stderr: &long[3], data: Some(&data), error: Some(&long[4]),
            took: Duration::from_secs(numbers.2),
        };
        let line = line(&answer);
        prop_assert!(line["success"] == json!(true) || !line["error"].as_str().unwrap().is_empty());
    }
}
