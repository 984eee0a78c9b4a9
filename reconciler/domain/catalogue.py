"""What each code of a diagnostic is about, why it is so, and how to mend it: a paragraph for people.

Shown by `explain CODE`, in `docs/errors.md` and as the help of a rule in SARIF. A finding's own message says what is
wrong in the manifest at hand; this says what stands behind it.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.domain.diagnostics import Code

PAGES: Mapping[Code, str] = {
    Code.UNREADABLE: (
        "A file that ends in .yaml or .yml could not be read, so nobody knows what it declares. Symbolic links and "
        "submodules are never followed, and a manifest has at most 4,000,000 bytes. Until it is mended, nothing that "
        "it may have declared is cancelled. Put a regular file in its place, split it, or give it another ending."
    ),
    Code.ENCODING: (
        "Manifests are UTF-8, with or without a byte order mark, and hold no control characters. Save the file as "
        'UTF-8 in your editor; write a control character that you need as an escape in double quotes, like "\\x07".'
    ),
    Code.SYNTAX: (
        "The text is not YAML, so nothing can be said about what it means. The finding stands where the mistake is, "
        "or where the quote or bracket opens that was never closed. Documents before it, and after the next `---`, "
        "are checked all the same."
    ),
    Code.DUPLICATE_KEY: (
        "A key stands twice in one mapping. YAML allows one of each, and programs differ in which one they take. "
        "Remove the one that is not meant."
    ),
    Code.TOO_COMPLEX: (
        "A document has more than 500,000 values (those behind an alias count each time), is nested more than 50 "
        "levels deep, or is one of more than 1,000 in its file. Nobody writes such a manifest by hand: look "
        "at what generates it. Long lists of devices belong into a CSV file (`devicesFrom`)."
    ),
    Code.BAD_KEY: (
        "Keys of manifests are text, and values have no tags like `!!binary`. A key that looks like a number or a "
        "truth value is quoted. A brace at the start of a value opens a mapping: quote the text, and fill in "
        "templates before they are committed."
    ),
    Code.API_VERSION: (
        "Every manifest begins with `apiVersion: ota/v1`. It says which release of the format the file is written "
        "in, so that later ones can be told from it."
    ),
    Code.KIND: (
        "Every manifest says in `kind` what it declares: Product, Package, Batch, DeviceGroup or DeviceInventory, "
        "written exactly so."
    ),
    Code.NOT_A_MANIFEST: (
        "A document of this file is a list or a bare text where a manifest is expected: a mapping with `apiVersion`, "
        "`kind`, `metadata` and `spec`. Several manifests in one file are separated by a line `---`. Other YAML may "
        "lie in the repository; it is left alone as long as it doesn't look like ours."
    ),
    Code.REQUIRED: (
        "A field without which the object makes no sense is missing. The finding stands at the key under which it "
        "belongs. Some fields are required by what others say: a delta package needs its `sourceVersion`, and a file "
        "from outside the repository its `sha256`."
    ),
    Code.TYPE: (
        "The value is of another type than the field. Most often YAML has read a text as something else: `1.10` is "
        "the number 1.1, `true` a truth value, and both need quotes to be text. Nothing is converted silently."
    ),
    Code.CHOICE: (
        "The field takes one of a few values, written exactly as listed, upper and lower case included."
    ),
    Code.UNKNOWN_FIELD: (
        "The object has no field of this name at this place. Unknown fields are errors, because a misspelt one "
        "would else be ignored, and the batch would do what nobody asked for. Often the name is misspelt, or the "
        "indentation puts it under the wrong key."
    ),
    Code.MALFORMED: (
        "The value is text, and not of the form that the field asks for: a name, a version, a duration (`90s`, "
        "`1h30m`), a time with its offset (`2026-12-01T02:00:00+01:00`), a digest. Names that the device protocol "
        "uses itself are refused as tags and as names of files: devices find a field by its name alone, and would "
        "take the one for the other."
    ),
    Code.RANGE: (
        "The value is too small, too large, too short or too long. Most of these limits are the operator's to "
        "change: `reconciler validate --limits NAME=VALUE` checks against other numbers; the daemon has its own."
    ),
    Code.COMBINATION: (
        "Each field is right by itself, and together they contradict each other, or leave open what is meant: two "
        "ways to say whom a batch is for, a retry that comes later than the timeout, a schedule for a dynamic batch."
    ),
    Code.REPEATED: "A list names the same thing twice. Each device, version, file or module is listed once.",
    Code.IGNORE: (
        "A comment `# reconciler: ignore[CODE] reason` hides a warning with that code on its own line. This one "
        "hides nothing: the warning is gone, the code is misspelt, or the finding is an error, which no comment can "
        "hide, as it keeps the object out. Remove the comment, so that it hides nothing later that you want to see. "
        "That a warning is gone is said only where nothing in the tree is an error: an object that is left out has "
        "no warnings, and others have none about it."
    ),
    Code.UNSUPPORTED: (
        "The format has a place for this, and this release can't do it yet. It is refused, not ignored, so that "
        "nobody relies on it. Remove it until a release does it."
    ),
    Code.SCHEMA: (
        "The document doesn't fit the JSON schema given with `--schemas`. The schemas that come with the program say "
        "nothing that its own rules don't say; yours may be stricter, or of another release "
        "(`reconciler schema export` writes those of this one)."
    ),
    Code.REFERENCE: (
        "A manifest names an object that no manifest declares. Objects refer to each other by kind and "
        "`metadata.name`, in the whole repository: packages and inventories to their product, batches to their "
        "package and group. A group may be missing, which is a warning, once its batch was accepted. "
        "When `validate` is given single files, it says so too of an object that a flaw in another file keeps out; "
        "given the folder, it shows that flaw."
    ),
    Code.DUPLICATE_OBJECT: (
        "Two documents declare the same kind and `metadata.name`. Neither counts, as nobody can know which one is "
        "meant; what was accepted before stays as it is. Remove or rename one."
    ),
    Code.TAKEN: (
        "Two objects claim something that only one can have: a product key, a package's title, or one version of "
        "one module of one product. Neither counts until one is changed."
    ),
    Code.SAME_VERSION: (
        "A source version is the very version to upgrade to. A device that is there already needs no upgrade."
    ),
    Code.VERSION_FORMAT: (
        "The product has `versionFormat: Numeric`, so its versions are three numbers with dots, like 1.4.0: those of "
        "packages, of source versions, and of what devices report."
    ),
    Code.MODULE: (
        "A package or a selector names a module that its product doesn't list. `default`, the whole firmware, always "
        "exists; all others are in the product's `modules`."
    ),
    Code.OVERLAP: (
        "Two batches are for the same devices, and neither says what is to happen to a device that is still in the "
        "other one: with `conflict: Keep`, the default, its second task fails. Set the older one to `state: Canceled` "
        "if it is over. Else write `conflict: Wait` in the new one, to let the device wait for its turn, or "
        "`Overwrite`, to take the older task's place: `conflict` can't change once a batch was accepted. Told are "
        "batches to the same version, and to different modules without `multiModule`. Batches to different versions "
        "of one module are releases, which may stay in Git one beside the other; they are told only where the older "
        "one is dynamic, where the newer one's version is lower, where both start at the same time, or where the "
        "older one's `schedule.end` is after the newer one's start. The newer one is that with the later start, if "
        "both have a schedule; else that with the higher version, or with the lower one if it alone has "
        "`allowDowngrade`; else that in the later file. Not told are batches of which one ends before the other "
        "starts, and those for devices that are on the other's version already. Dynamic batches of one package are "
        "for different source versions, or there is a single one for a group: else the second is refused while the "
        "first runs."
    ),
    Code.DEVICE_TWICE: (
        "Two inventories of one product declare the same device. Its tags would be anybody's guess, so neither "
        "inventory counts. Remove the device from one."
    ),
    Code.TOO_MANY: (
        "There are more objects than the operator allows: packages, groups, or groups that one device is in. The "
        "later ones, by file, are refused. Delete what is no longer needed, or ask for a higher limit."
    ),
    Code.DOWNGRADE: (
        "The batch is for devices on a version that is higher than its package's, as far as both are numbers with "
        "dots. Such devices are left out, so the batch would skip them. Write `allowDowngrade: true` if they are to "
        "go down; else the package or the version is a slip."
    ),
    Code.NO_FILE: (
        "The manifest names a file that is not in the repository. Paths are relative to the manifest, lead nowhere "
        "outside the repository, and reach regular files only; upper and lower case differ."
    ),
    Code.SIZE: (
        "The file has another size than the manifest says. Either the file is not the one that was meant, or it "
        "was built anew and the manifest was not. `size` is optional for a file in the repository."
    ),
    Code.DIGEST: (
        "The file has another digest than the manifest says, so it is another file. If it was built anew on purpose, "
        "write its new digest; but a package's content never changes under one name once it was accepted: then "
        "publish a new package."
    ),
    Code.FILE: (
        "This can't be a package's file: it is empty, too large, of a format that is not allowed (the operator's "
        "limit `file-formats`), or kept by Git LFS, so that commits have only a pointer. Devices would get "
        "exactly what the commit holds."
    ),
    Code.ROSTER: (
        "A line of a CSV file with devices can't be read. A list of names has one name a line, after an optional "
        "header `name`; an inventory has a header with `name` and one column for each tag. `reconciler template` "
        "prints both."
    ),
    Code.ROSTER_REPEATED: "A CSV file names the same device twice. Each device stands in it once.",
    Code.ROSTER_TOO_LARGE: (
        "A CSV file has more devices or bytes than the operator allows: 1,000,000 devices and 64 MB for a batch and "
        "an inventory, 20,000 devices for a group, unless set otherwise. Split it over several objects."
    ),
}
"""By code, in the order of the codes."""
