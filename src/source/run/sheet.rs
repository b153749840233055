//! Comma-separated tables: sample sheets, and similar files.

/// Longest name of a sample: no file name begins with a longer one.
const SAMPLE_MAX: usize = 200;

/// Returns the samples of a sheet: the values of `columns` in the first of `sections` that has any.
///
/// Without sections the whole text is one table. Case is ignored in names of sections and columns.
pub(super) fn samples(text: &str, sections: &[String], columns: &[String]) -> Vec<String> {
    if sections.is_empty() {
        return values(text.lines(), columns);
    }
    let tables = sections.iter().map(|section| values(section_lines(text, section), columns));
    tables.into_iter().find(|samples| !samples.is_empty()).unwrap_or_default()
}

/// Returns the lines between `[Section]` and the next section.
fn section_lines<'a>(text: &'a str, section: &'a str) -> impl Iterator<Item = &'a str> {
    let is_start = move |line: &str| title(line).is_some_and(|it| it.eq_ignore_ascii_case(section));
    let after = text.lines().skip_while(move |line| !is_start(line)).skip(1);
    after.take_while(|line| title(line).is_none())
}

/// Returns the name in `[Data],,,,`.
fn title(line: &str) -> Option<&str> {
    line.trim_start().trim_start_matches('"').strip_prefix('[')?.split(']').next().map(str::trim)
}

fn values<'a>(lines: impl Iterator<Item = &'a str>, columns: &[String]) -> Vec<String> {
    let mut lines = lines.filter(|line| !line.trim_matches([',', ' ', '\t', '\r']).is_empty());
    let Some(head) = lines.next() else { return Vec::new() };
    let head = cells(head, b',');
    let is_wanted = |name: &String| columns.iter().any(|one| one.eq_ignore_ascii_case(name));
    let wanted: Vec<_> =
        head.iter().enumerate().filter(|(_, name)| is_wanted(name)).map(|(at, _)| at).collect();
    let mut found = Vec::new();
    for line in lines {
        let row = cells(line, b',');
        for value in wanted.iter().filter_map(|at| row.get(*at)) {
            if !value.is_empty() && value.len() <= SAMPLE_MAX && !found.contains(value) {
                found.push(value.clone());
            }
        }
    }
    found
}

/// Splits a line into its cells; quoted cells may contain separators, and doubled quotes.
pub(super) fn cells(line: &str, separator: u8) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut is_quoted = false;
    let mut letters = line.trim_end_matches(['\r', '\n']).chars().peekable();
    while let Some(letter) = letters.next() {
        let Some(cell) = cells.last_mut() else { break };
        match letter {
            '"' if is_quoted && letters.peek() == Some(&'"') => cell.extend(letters.next()),
            '"' => is_quoted = !is_quoted,
            letter if letter == char::from(separator) && !is_quoted => cells.push(String::new()),
            letter => cell.push(letter),
        }
    }
    cells.iter_mut().for_each(|cell| *cell = cell.trim().to_owned());
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn illumina(text: &str) -> Vec<String> {
        let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let sections = owned(&["BCLConvert_Data", "Data"]);
        samples(text, &sections, &owned(&["Sample_ID", "Sample_Name"]))
    }

    #[test]
    fn first_form() {
        let text = "[Header],,,\r\nIEMFileVersion,4,,\r\n[Reads],,,\r\n151,,,\r\n[Data],,,\r\n\
            Lane,Sample_ID,Sample_Name,index\r\n1,S-1,Alice,ACGT\r\n2,S-1,Alice,ACGT\r\n\
            ,,,\r\n3,S-2,\"Bob, the second\",ACGT\r\n";
        assert_eq!(illumina(text), ["S-1", "Alice", "S-2", "Bob, the second"]);
    }

    #[test]
    fn second_form() {
        let text = "[Header]\nFileFormatVersion,2\n\n[BCLConvert_Settings]\nSoftwareVersion,4.1\n\n\
            [BCLConvert_Data]\nSample_ID,Index\nNA12878,ACGT\nNA12878_2,ACGT\n\n\
            [Cloud_Data]\nSample_ID,ProjectName\nother,p\n";
        assert_eq!(illumina(text), ["NA12878", "NA12878_2"]);
    }

    #[test]
    fn what_is_no_sheet_has_no_samples() {
        for text in ["", "[Data]", "[Data],,\nLane,index\n1,AC\n", "<html>", "[Dat", ",,,\n\"\n"] {
            assert!(illumina(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn cells_are_split_as_spreadsheets_do() {
        assert_eq!(cells("a, b ,\"c,\"\"d\"\"\",\r\n", b','), ["a", "b", "c,\"d\"", ""]);
        assert_eq!(cells("a\tb,c", b'\t'), ["a", "b,c"]);
    }
}
