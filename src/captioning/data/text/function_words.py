"""English words that say nothing of what is in an image: articles, pronouns, prepositions, auxiliaries and the like."""

_WORDS = """
    a an the this that these those some any each every all both either neither no another other others such same own
    i me my we us our you your he him his she her hers it its they them their one ones who whom whose which what
    himself herself itself themselves myself yourself something someone anything anyone everyone
    and or but nor so yet if while as than because when where until though although whether how why
    of in on at by to from with without into onto over under above below up down out off through across along around
    about after before behind beside besides between beyond during for inside outside near next toward towards upon
    against among amongst within like past away back together apart
    is are was were be been being am has have having had do does did doing done
    can could will would shall should may might must not very too also only just then there here now more most much
    many few several lot lots get gets getting
    n't 's 'm 're 've 'll 'd
"""
FUNCTION_WORDS = frozenset(_WORDS.split())
