//! Any text as a configuration file: it is refused with its problems, or it means something that
//! reads back as the same.

use std::{io::Write as _, path::PathBuf};

use senderz_gateway::config::{ConfigErrors, Sources, load, load_explained};

pub(crate) fn check(data: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("room for a file");
    let read = read(&mut file, data, load_explained);
    match read {
        Ok((config, effective)) => {
            let text = effective.to_toml();
            let again = self::read(&mut file, text.as_bytes(), load);
            assert_eq!(again.expect("it was valid"), config);
        }
        Err(errors) => {
            assert!(!errors.0.is_empty());
            for problem in &errors.0 {
                assert!(!problem.rule.is_empty());
            }
            assert!(!errors.to_string().is_empty());
        }
    }
}

fn read<T>(
    file: &mut tempfile::NamedTempFile,
    text: &[u8],
    load: impl Fn(&Sources) -> Result<T, ConfigErrors>,
) -> Result<T, ConfigErrors> {
    let written = file.as_file_mut().set_len(0);
    written.and_then(|()| file.reopen()?.write_all(text)).expect("room for a file");
    let path: PathBuf = file.path().to_owned();
    load(&Sources { file: Some(path), ..Sources::default() })
}
