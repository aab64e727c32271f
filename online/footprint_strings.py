"""The 256 strings of a logit footprint, fixed: to change one is to change every footprint.

The paper takes the K most frequent tokens across the probes (CSCR, section 3.1.1). These are the
strings to which SmolLM2-135M-Instruct and Gemma 3 270M together gave the most probability over the
first 10 greedy tokens of their answers to ``probes.texts()``, of the 46,030 that are one token in
both vocabularies (49,152 and 262,144 ids). They hold 65 % and 76 % of what the two models say.
"""

from __future__ import annotations

STRINGS: tuple[str, ...] = (
    *(" a", " the", " ", " is", ",", " of", ".", "\n", ":", " in", " to", "The", " that"),
    *(" for", "1", " and", " I", "2", "User", "m", "3", " by", "'", "9", "8", " function"),
    *(" this", " know", " The", " need", " old", "_", "7", "5", "A", " capital", "0", "x"),
    *(" we", "t", " +", "4", " What", " about", " can", " today", "To", " hurry", "(", "6"),
    *("\n\n", "In", " years", " solve", " have", ' "', "def", " boxes", " not"),
    *(" rectangle", " on", " test", " was", " It", " x", " which", " equation", " from"),
    *(" reader", "python", " has", " you", " wide", " Write", " *", " two", " slogan", "```"),
    *(" A", " Tuesday", "ve", " poem", " Monday", " first", "This", " code", " would", " an"),
    *(" name", " answer", " where", " buys", " don", " sure", " find", "#", " story", "?"),
    *("Here", " but", " with", " cm", " This", " Which", " ill", " had", " (", " lies"),
    *(" at", " dawn", " How", " shop", " are", " C", " area", " In", "’", " think", " short"),
    *(" council", "ll", " question", " it", " If", " May", "c", " fed", " bridge", " will"),
    *(" older", " sentence", " -", " <", "alia", " Why", " text", '"', " park", " nurse"),
    *(" calculated", " up", " shift", " step", "include", " =", " painting", " set"),
    *(" sorry", " want", " one", " problem", "-", " year", " ocean", " isolating", " do"),
    *(" down", " longer", " when", " using", "B", " close", " am", " nurses", " going"),
    *(" baker", " shorter", " town", "h", " occurs", "d", " if", " made", "re", " its"),
    *(" city", "es", " add", "le", " square", " adding", " You", " hospital", " start"),
    *(" library", "a", " `", " Mexico", " known", " error", " S", " lamp", " Yes", "I", "`"),
    *(" as", " what", " station", " Egypt", " roof", " perimeter", "As", " bullet", " or"),
    *(" market", " Students", " We", " Answer", " material", " sorted", " Wednesday"),
    *(" bought", "L", "Let", " India", " take", " understand", "S", " perform", " returns"),
    *(" very", " type", " school", " see", "int", " use", " just", " salt", " than"),
    *(" farmer", " museum", " open", " Finland", " crane", " beginner", " Brazil", " new"),
    *(" Japan", " calculate", " Is", " correct", " teacher", " natural", " been"),
    *(" Portugal", " does", " There", " your", " Can", "print", "  ", "o", " small", "input"),
    *(" good", " string"),
)
