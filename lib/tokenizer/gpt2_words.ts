// How GPT-2 splits a text into words.

/**
 * Endings after an apostrophe, letters, digits and signs with the space before them, and white space: that of Unicode, which holds U+0085
 * and not U+FEFF. In JavaScript `\s` is otherwise.
 */
export const gpt2Words =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu
