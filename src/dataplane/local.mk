# filled by the first code in this folder
